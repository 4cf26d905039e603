"""The duties of each service on the bus, and the subjects that it may publish and subscribe to because of them.

Each duty names the function of shared/ that performs it, so that a reviewer can compare both. The broker refuses every
other subject. `deploy/accounts.py` limits replies; `docs/operations.md` lists the limits that subjects cannot express.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import subjects, topology, webhook_subjects
from shared.messages import JobClass, Task
from shared.settings import StreamSettings
from shared.topology import (
    ADVISORY,
    JOB_DLQ,
    JOB_EV,
    JOB_LOG,
    JOB_Q,
    JOBS,
    OWNED,
    SESSIONS,
    WEBHOOK_LOG,
    WEBHOOK_Q,
    WEBHOOKS,
    bucket_stream,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image_store import Bucket

OPERATOR = "operator"
REPLIES = "_R_.>"
"""The reply subjects that the broker generates for requests from other accounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duties:
    """The use that one service makes of the bus."""

    calls: tuple[str, ...] = ()
    """Requests to other services (`rpc.call`)."""
    serves: tuple[str, ...] = ()
    """Endpoints that it serves (`rpc.serve`)."""
    subscribes: tuple[str, ...] = ()
    """Subjects that it subscribes to (`bus.subscribe`)."""
    publishes: tuple[str, ...] = ()
    """Subjects that it publishes to, stored or not (`bus.publish`, `bus.emit`)."""
    reads: tuple[str, ...] = ()
    """Streams that it reads by direct get (`bus.get`, `bus.last`, `bus.history`)."""
    inspects: tuple[str, ...] = ()
    """Streams that it reads the state of (`bus.subjects_in`, `bus.creation_time`, `bus.info`)."""
    purges: tuple[str, ...] = ()
    """Streams that it deletes messages from by subject (`bus.purge`)."""
    deletes_from: tuple[str, ...] = ()
    """Streams that it deletes single messages from (`bus.delete`)."""
    consumes: tuple[tuple[str, str], ...] = ()
    """Streams and the consumers that it pulls from (`deliveries`)."""
    rewinds: tuple[tuple[str, str], ...] = ()
    """Consumers that it resets (`redeliver_unsettled`, `redeliver_from`)."""
    writes_images: tuple[Bucket, ...] = ()
    """Buckets that it stores images in: it looks for each image first and removes the copy that it replaces
    (`images.put`, `images.head`)."""
    removes_images: tuple[Bucket, ...] = ()
    """Buckets that it reads and deletes images from (`images.remove`)."""
    reads_images: tuple[Bucket, ...] = ()
    """Buckets that it only reads images from (`images.get`)."""
    lists_streams: bool = False
    """Whether it compares the streams with the declaration (`declaring.find_weaknesses`)."""
    declares: bool = False
    """Whether it creates streams and consumers (`declaring.declare_streams`)."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that a user may publish and subscribe to; the broker refuses every other one."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


SUBMITS = tuple(subjects.submissions_in(job_class) for job_class in JobClass)
WORK = tuple((JOB_Q, topology.worker_consumer(job_class, task)) for job_class in JobClass for task in Task)
DISPATCH = tuple((JOB_LOG, consumer) for consumer in topology.DISPATCHERS.values())
PROJECT, REAP = (JOB_EV, topology.PROJECTOR), (ADVISORY, topology.REAPER)
FAN_OUT = (JOB_EV, topology.FAN_OUT)
IMAGE_VERBS = (
    subjects.IMG_ASSEMBLE,
    subjects.IMG_EXTRACT,
    subjects.IMG_RENDITION,
    subjects.IMG_SHADOW,
    subjects.IMG_WHITE_BALANCE,
    subjects.IMG_ESTIMATE_LIGHT,
)

DUTIES = {
    "gateway": Duties(
        calls=(
            subjects.SEG_MASK,
            subjects.SEG_OUTLINE,
            *IMAGE_VERBS,
            subjects.JOB_QUEUE,
            *map(subjects.health, ("segmentation", "imageutils", "jobmanager", "a100worker")),
        ),
        subscribes=(subjects.LIVE_EVENTS, subjects.WORKERS),
        publishes=(
            *SUBMITS,
            subjects.events_of_kind(subjects.TERMINAL),
            subjects.SEG_CANCEL,
            subjects.PHOTOS,
            subjects.ALL_OWNED,
            webhook_subjects.ALL_ENDPOINTS,
            webhook_subjects.ALL_DELIVERIES,  # test deliveries and repeated deliveries
        ),
        reads=(JOB_LOG, JOB_EV, JOBS, SESSIONS, OWNED, WEBHOOKS, WEBHOOK_LOG),
        inspects=(SESSIONS, JOB_EV, bucket_stream("results")),
        purges=(SESSIONS, JOB_EV, JOB_DLQ, WEBHOOKS, WEBHOOK_Q, WEBHOOK_LOG),  # a user deletes a job or an endpoint
        deletes_from=(JOB_LOG,),
        writes_images=("inputs", "debug"),  # reading the entry of an old image stores it again
        removes_images=("results", "cache"),  # data derived from a deleted image is deleted with it
        lists_streams=True,
    ),
    "segmentation": Duties(
        serves=(subjects.SEG_MASK, subjects.SEG_OUTLINE, subjects.SEG_SALIENCY, subjects.health("segmentation")),
        subscribes=(subjects.SEG_CANCEL, subjects.PHOTOS),
        writes_images=("cache",),
        reads_images=("inputs", "results"),
    ),
    "imageutils": Duties(
        serves=(*IMAGE_VERBS, subjects.health("imageutils")),
        writes_images=("cache",),
        reads_images=("inputs", "results"),
    ),
    "jobmanager": Duties(
        serves=(subjects.JOB_QUEUE, subjects.JOB_REPLAY, subjects.JOB_REDRIVE, subjects.health("jobmanager")),
        subscribes=(
            subjects.LIVE_STARTS,
            subjects.LIVE_ENDS,
            subjects.WORKERS,
            subjects.STREAM_DELETED,
            subjects.CONSUMER_DELETED,
        ),
        publishes=(
            *SUBMITS,  # a replay is a new job
            *(subjects.queue_entries_in(job_class, task) for job_class in JobClass for task in Task),
            subjects.events_of_kind("queued"),
            subjects.events_of_kind("returned"),  # on behalf of a lost worker
            subjects.events_of_kind(subjects.TERMINAL),
            subjects.ALL_DEAD,
            subjects.ALL_RECORDS,
            subjects.ALL_WAITING,  # for replays and jobs that no gateway submitted
        ),
        reads=(JOB_LOG, JOB_Q, JOB_EV, JOB_DLQ, JOBS, SESSIONS),
        inspects=(JOB_Q,),
        purges=(JOB_Q, JOB_EV, JOBS, SESSIONS),  # the last three when they are nearly full
        deletes_from=(JOB_LOG, JOB_Q, JOB_DLQ),
        consumes=(*DISPATCH, PROJECT, REAP),
        rewinds=(*DISPATCH, PROJECT),
        writes_images=("inputs",),  # an old image is stored again when a job names it
        removes_images=("debug",),  # when the store is nearly full
        reads_images=("results",),  # the results that a job starts from
        declares=True,
    ),
    # A part of the job manager with its own key, because it calls hosts of third parties. It reads no image, no
    # submission and only the terminal events of jobs, and changes no job. In OWNED it looks for deleted jobs.
    "webhooks": Duties(
        subscribes=(webhook_subjects.LIVE_DELIVERIES, webhook_subjects.LIVE_ENDPOINTS),
        publishes=(
            webhook_subjects.ALL_DELIVERIES,
            webhook_subjects.ALL_STATES,
            webhook_subjects.ALL_ATTEMPTS,
        ),
        reads=(JOBS, OWNED, WEBHOOKS, WEBHOOK_Q),
        deletes_from=(WEBHOOK_Q,),
        consumes=(FAN_OUT,),
        rewinds=(FAN_OUT,),
    ),
    "a100worker": Duties(
        calls=(subjects.SEG_SALIENCY, subjects.IMG_WHITE_BALANCE),
        serves=(subjects.health("a100worker"), subjects.ALL_DRAINS),
        subscribes=(subjects.LIVE_QUEUE, subjects.LIVE_ENDS),
        publishes=(
            subjects.events_of_kind("started"),
            subjects.events_of_kind("returned"),
            subjects.events_of_kind("progress"),
            subjects.events_of_kind("preview"),
            subjects.events_of_kind(subjects.TERMINAL),
            subjects.ALL_DEAD,
            subjects.ALL_SESSIONS,
            subjects.ALL_RESULT_MARKS,
            subjects.WORKERS,
        ),
        reads=(JOB_EV, JOB_Q, OWNED),  # the queue, to prefetch the inputs of the next job
        inspects=(JOB_Q,),  # to list the queues with jobs
        consumes=WORK,
        writes_images=("results", "debug"),
        reads_images=("inputs", "cache"),
    ),
}


def permissions(service: str) -> Permissions:
    """Return the permissions of a service."""
    duties = DUTIES[service]
    return Permissions(publish=_sort(_publish_subjects(duties)), subscribe=_sort(_subscribe_subjects(service, duties)))


def inbox_of(user: str) -> str:
    """Return the subjects on which only this user receives replies."""
    return f"{subjects.inbox_prefix(user)}.>"


def _subscribe_subjects(service: str, duties: Duties) -> Iterator[str]:
    yield inbox_of(service)
    yield from (*duties.serves, *duties.subscribes)
    if duties.serves:
        yield from subjects.discovery(service)


def _publish_subjects(duties: Duties) -> Iterator[str]:
    yield from (*duties.calls, *duties.publishes)
    if not duties.declares:
        yield subjects.api(
            "STREAM.NAMES"
        )  # every other service waits for the streams (`declaring.wait_until_declared`)
    yield from _reply_subjects(duties)
    yield from _read_subjects(duties)
    yield from _consume_subjects(duties)
    for bucket in duties.writes_images:
        below = ">" if bucket == "cache" else "*"  # the name of a derived image begins with that of its source
        yield from (subjects.object_chunks(bucket, "*"), subjects.object_entry(bucket, below))
        yield from (subjects.api(verb, bucket_stream(bucket)) for verb in ("STREAM.INFO", "STREAM.PURGE"))
    for bucket in duties.removes_images:
        yield subjects.object_entry(bucket, "*")
        yield subjects.api("STREAM.PURGE", bucket_stream(bucket))
    yield from (subjects.api("STREAM.INFO", stream) for stream in duties.inspects)
    yield from (subjects.api("STREAM.PURGE", stream) for stream in duties.purges)
    yield from (subjects.api("STREAM.MSG.DELETE", stream) for stream in duties.deletes_from)
    if duties.lists_streams:
        yield subjects.api("STREAM.LIST")
    if duties.declares:
        yield from _declare_subjects()


def _reply_subjects(duties: Duties) -> Iterator[str]:
    """List reply subjects. The broker's `allow_responses` would permit any reply subject within the account."""
    if duties.serves:
        yield REPLIES
    if duties.declares:
        yield inbox_of(OPERATOR)  # operators are in the same account, see deploy/accounts.py


def _read_subjects(duties: Duties) -> Iterator[str]:
    for stream in (
        *duties.reads,
        *map(bucket_stream, (*duties.writes_images, *duties.removes_images, *duties.reads_images)),
    ):
        yield subjects.api("DIRECT.GET", stream)
        yield subjects.api("DIRECT.GET", stream, ">")
        yield subjects.api("STREAM.MSG.GET", stream)  # a replica may be out of date, so the leader is read too


def _consume_subjects(duties: Duties) -> Iterator[str]:
    for stream, consumer in duties.consumes:
        yield subjects.api("CONSUMER.MSG.NEXT", stream, consumer)
        yield subjects.acknowledgements(stream, consumer)
    yield from (subjects.api("CONSUMER.RESET", *names) for names in duties.rewinds)


def _declare_subjects() -> Iterator[str]:
    declared = topology.build_topology(StreamSettings())
    for stream in declared.streams:
        yield from (subjects.api(f"STREAM.{verb}", str(stream.name)) for verb in ("INFO", "CREATE", "UPDATE"))
    for stream_name, consumer in declared.consumers:
        name = str(consumer.durable_name)
        yield subjects.api("CONSUMER.DURABLE.CREATE", stream_name, name)
        yield subjects.api("CONSUMER.DELETE", stream_name, name)  # a consumer that cannot be changed is replaced
        # A consumer with a running job is not replaced, settled submissions may leave the log, and a pause is reported.
        yield subjects.api("CONSUMER.INFO", stream_name, name)


def _sort(found: Iterator[str]) -> tuple[str, ...]:
    return tuple(sorted(set(found)))
