"""Who may say and hear what on the bus: the duties of each service, and the subjects that follow from them.

The duties are written in the words of the code that has them, so that a reviewer can hold one beside the other. What
is not listed is refused by the broker; where answers may go, `deploy/accounts.py` says. `docs/operations.md` says what
subjects cannot express.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import subjects, topology
from shared.messages import JobClass, Task
from shared.settings import StreamSettings
from shared.topology import ADVISORY, JOB_DLQ, JOB_EV, JOB_LOG, JOB_Q, JOBS, OWNED, SESSIONS, bucket_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image_store import Bucket

OPERATOR = "operator"
REPLIES = "_R_.>"
"""Where the broker has questions from other accounts answered, each on a subject of its own making."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duties:
    """What one service does on the bus."""

    asks: tuple[str, ...] = ()
    """Questions to other services (`rpc.call`)."""
    answers: tuple[str, ...] = ()
    """Questions that it answers (`rpc.serve`)."""
    hears: tuple[str, ...] = ()
    """What it listens to (`bus.subscribe`)."""
    says: tuple[str, ...] = ()
    """What it publishes, stored or not (`bus.publish`, `bus.emit`)."""
    reads: tuple[str, ...] = ()
    """Streams that it reads by direct get (`bus.get`, `bus.last`, `bus.history`)."""
    looks_into: tuple[str, ...] = ()
    """Streams whose state it asks for (`bus.subjects_in`, `bus.created`)."""
    purges: tuple[str, ...] = ()
    """Streams that it removes messages from by subject (`bus.purge`)."""
    deletes_from: tuple[str, ...] = ()
    """Streams that it removes messages from one by one (`bus.delete`)."""
    consumes: tuple[tuple[str, str], ...] = ()
    """Streams with the consumers by which it takes work from them (`deliveries`)."""
    rewinds: tuple[tuple[str, str], ...] = ()
    """Consumers of which it has everything delivered again (`redeliver_unsettled`, `redeliver_from`)."""
    keeps: tuple[Bucket, ...] = ()
    """Buckets that it stores pictures in, which begins with a look for them (`images.put`, `images.head`)."""
    fetches: tuple[Bucket, ...] = ()
    """Buckets that it only reads pictures from (`images.get`)."""
    lists_streams: bool = False
    """Whether it compares the streams with the declaration (`declaring.find_weaknesses`)."""
    declares: bool = False
    """Whether it makes streams and consumers (`declaring.declare_streams`)."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that a user may publish to and subscribe to; every other one is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


SUBMITS = tuple(subjects.submissions_in(job_class) for job_class in JobClass)
WORK = tuple((JOB_Q, topology.worker_consumer(job_class, task)) for job_class in JobClass for task in Task)
DISPATCH = tuple((JOB_LOG, consumer) for consumer in topology.DISPATCHERS.values())
PROJECT, REAP = (JOB_EV, topology.PROJECTOR), (ADVISORY, topology.REAPER)
IMAGE_VERBS = (subjects.IMG_EXTRACT, subjects.IMG_SHADOW, subjects.IMG_WHITE_BALANCE)

DUTIES = {
    "gateway": Duties(
        asks=(
            subjects.SEG_MASK,
            *IMAGE_VERBS,
            subjects.JOB_QUEUE,
            *map(subjects.health, ("segmentation", "imageutils", "jobmanager", "a100worker")),
        ),
        hears=(subjects.LIVE_EVENTS,),
        says=(*SUBMITS, subjects.events_of_kind(subjects.TERMINAL), subjects.SEG_CANCEL, subjects.ALL_OWNED),
        reads=(JOB_LOG, JOB_EV, JOBS, SESSIONS, OWNED),
        purges=(SESSIONS,),
        keeps=("inputs", "debug"),  # of a picture it looks for, the life is renewed
        fetches=("results", "cache"),
        lists_streams=True,
    ),
    "segmentation": Duties(
        answers=(subjects.SEG_MASK, subjects.SEG_SALIENCY, subjects.health("segmentation")),
        hears=(subjects.SEG_CANCEL,),
        keeps=("cache",),
        fetches=("inputs",),
    ),
    "imageutils": Duties(
        answers=(*IMAGE_VERBS, subjects.health("imageutils")),
        keeps=("cache",),
        fetches=("inputs",),
    ),
    "jobmanager": Duties(
        answers=(subjects.JOB_QUEUE, subjects.JOB_REPLAY, subjects.JOB_REDRIVE, subjects.health("jobmanager")),
        hears=(subjects.LIVE_STARTS, subjects.LIVE_ENDS, subjects.STREAM_DELETED, subjects.CONSUMER_DELETED),
        says=(
            *SUBMITS,  # a replay is a new job
            *(subjects.queue_entries_in(job_class, task) for job_class in JobClass for task in Task),
            subjects.events_of_kind("queued"),
            subjects.events_of_kind(subjects.TERMINAL),
            subjects.ALL_DEAD,
            subjects.ALL_RECORDS,
        ),
        reads=(JOB_LOG, JOB_Q, JOB_EV, JOB_DLQ, JOBS),
        looks_into=(JOB_Q,),
        purges=(JOB_Q,),
        deletes_from=(JOB_Q, JOB_DLQ),
        consumes=(*DISPATCH, PROJECT, REAP),
        rewinds=(*DISPATCH, PROJECT),
        keeps=("inputs",),  # an old picture is stored again when a job names it
        declares=True,
    ),
    "a100worker": Duties(
        asks=(subjects.SEG_SALIENCY, subjects.IMG_WHITE_BALANCE),
        answers=(subjects.health("a100worker"),),
        hears=(subjects.LIVE_QUEUE, subjects.LIVE_ENDS),
        says=(
            subjects.events_of_kind("started"),
            subjects.events_of_kind("returned"),
            subjects.events_of_kind("progress"),
            subjects.events_of_kind("preview"),
            subjects.events_of_kind(subjects.TERMINAL),
            subjects.ALL_DEAD,
            subjects.ALL_SESSIONS,
        ),
        reads=(JOB_EV, JOB_Q),  # the queue to fetch the inputs of what is next
        consumes=WORK,
        keeps=("results", "debug"),
        fetches=("inputs", "cache"),
    ),
}


def permissions(service: str) -> Permissions:
    """Return what the service may publish and subscribe to."""
    duties = DUTIES[service]
    return Permissions(publish=_sorted(_published(duties)), subscribe=_sorted(_subscribed(service, duties)))


def inbox_of(user: str) -> str:
    """Where a user receives replies, which nobody else may read."""
    return f"{subjects.inbox_prefix(user)}.>"


def _subscribed(service: str, duties: Duties) -> Iterator[str]:
    yield inbox_of(service)
    yield from (*duties.answers, *duties.hears)
    if duties.answers:
        yield from subjects.discovery(service)


def _published(duties: Duties) -> Iterator[str]:
    yield from (*duties.asks, *duties.says)
    if not duties.declares:
        yield subjects.api("STREAM.NAMES")  # everybody else waits until all is there (`declaring.wait_until_declared`)
    yield from _replied(duties)
    yield from _read(duties)
    yield from _taken(duties)
    for bucket in duties.keeps:
        yield from (subjects.object_chunks(bucket, "*"), subjects.object_entry(bucket, "*"))
    yield from (subjects.api("STREAM.INFO", stream) for stream in duties.looks_into)
    yield from (subjects.api("STREAM.PURGE", stream) for stream in duties.purges)
    yield from (subjects.api("STREAM.MSG.DELETE", stream) for stream in duties.deletes_from)
    if duties.lists_streams:
        yield subjects.api("STREAM.LIST")
    if duties.declares:
        yield from _declared()


def _replied(duties: Duties) -> Iterator[str]:
    """Not by the broker's `allow_responses`, which follows a reply subject anywhere within the account."""
    if duties.answers:
        yield REPLIES
    if duties.declares:
        yield inbox_of(OPERATOR)  # who is in the same account: `deploy/accounts.py`


def _read(duties: Duties) -> Iterator[str]:
    for stream in (*duties.reads, *map(bucket_stream, (*duties.keeps, *duties.fetches))):
        yield subjects.api("DIRECT.GET", stream)
        yield subjects.api("DIRECT.GET", stream, ">")
        yield subjects.api("STREAM.MSG.GET", stream)  # what a copy has not got yet is asked of the leader


def _taken(duties: Duties) -> Iterator[str]:
    for stream, consumer in duties.consumes:
        yield subjects.api("CONSUMER.MSG.NEXT", stream, consumer)
        yield subjects.acknowledgements(stream, consumer)
    yield from (subjects.api("CONSUMER.RESET", *names) for names in duties.rewinds)


def _declared() -> Iterator[str]:
    declared = topology.build_topology(StreamSettings())
    for stream in declared.streams:
        yield from (subjects.api(f"STREAM.{verb}", str(stream.name)) for verb in ("INFO", "CREATE", "UPDATE"))
    for stream_name, consumer in declared.consumers:
        yield subjects.api("CONSUMER.DURABLE.CREATE", stream_name, str(consumer.durable_name))


def _sorted(found: Iterator[str]) -> tuple[str, ...]:
    return tuple(sorted(set(found)))
