"""The streams, consumers and buckets on the broker, as data: limits, lifetimes, and the name of each.

`shared/declaring.py` creates them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RePublish,
    RetentionPolicy,
    StorageType,
    StoreCompression,
    StreamConfig,
)

from shared import subjects, webhook_subjects
from shared.messages import JobClass, Task

if TYPE_CHECKING:
    from shared.settings import StreamSettings

JOB_LOG, JOB_Q, JOB_EV, JOB_DLQ, ADVISORY = "JOB_LOG", "JOB_Q", "JOB_EV", "JOB_DLQ", "ADVISORY"
JOBS, SESSIONS, OWNED = "KV_jobs", "KV_sessions", "KV_owned"
WEBHOOKS, WEBHOOK_Q, WEBHOOK_LOG = "KV_webhooks", "WEBHOOK_Q", "WEBHOOK_LOG"
DISPATCHERS = {job_class: f"dispatcher-{job_class}" for job_class in JobClass}
PROJECTOR, REAPER, FAN_OUT = "projector", "reaper", "webhooks"
_HOUR, _DAY, _MIB, _FOREVER = 3600.0, 86_400.0, 1024**2, 0.0
_UNSETTLED = 50_000  # deliveries of a consumer that keeps messages for later
WAITING_WEBHOOKS = 50_000
"""The deliveries that may wait, of all owners together."""
LOGGED_ATTEMPTS = 100
"""The attempts at one endpoint that are kept."""
# Inputs and results live as long as JOB_LOG, so that every logged job can be replayed.
BUCKET_LIFE_S = {"inputs": 7 * _DAY, "results": 7 * _DAY, "debug": 1 * _DAY, "cache": 2 * _HOUR}


def worker_consumer(job_class: JobClass, task: Task) -> str:
    """Return the name of the pull consumer of one class and task in JOB_Q."""
    return f"{subjects.POOL}-{job_class}-{task}"


def bucket_stream(bucket: str) -> str:
    """Return the name of the stream of an object bucket."""
    return f"OBJ_{bucket}"


@dataclass(frozen=True, slots=True)
class Topology:
    """All streams and consumers; a consumer comes with the name of its stream."""

    streams: tuple[StreamConfig, ...]
    consumers: tuple[tuple[str, ConsumerConfig], ...]


def build_topology(settings: StreamSettings) -> Topology:
    """Return the streams and consumers for these settings."""
    buckets = (
        _bucket("inputs", settings.picture_bytes // 2),
        _bucket("results", settings.picture_bytes // 4),
        _bucket("debug", settings.picture_bytes // 8),
        # a full cache drops its oldest; an image without all its chunks is read as not found
        replace(_bucket("cache", settings.picture_bytes // 8), discard=DiscardPolicy.OLD),
    )
    views = (
        # records by <owner>.<job>; a full view drops its oldest, or it would stop the queue. Before it is full, the job
        # manager removes those of the largest owners, as it does with events, dead letters and debug sessions.
        replace(_key_value(JOBS, subjects.ALL_RECORDS, 7 * _DAY), discard=DiscardPolicy.OLD),
        _key_value(SESSIONS, subjects.ALL_SESSIONS, 1 * _DAY),
        # keys are <owner>.<sha256>; kept as long as the images. If an entry is dropped, the owner must upload again.
        replace(
            _key_value(OWNED, subjects.ALL_OWNED, BUCKET_LIFE_S["inputs"]),
            discard=DiscardPolicy.OLD,
            allow_msg_ttl=True,  # the entry of a waiting job ends soon after the job
        ),
    )
    streams = (*_job_streams(settings), *views, *_webhook_streams(), *buckets)
    return Topology(
        streams=tuple(replace(stream, num_replicas=settings.replicas) for stream in streams),
        consumers=tuple(_consumers(settings)),
    )


def _job_streams(settings: StreamSettings) -> tuple[StreamConfig, ...]:
    logged = _stream(JOB_LOG, *map(subjects.submissions_in, JobClass), max_age=7 * _DAY, max_bytes=512 * _MIB)
    waiting = (subjects.queue_entries_in(job_class, task) for job_class in JobClass for task in Task)
    queue = _stream(JOB_Q, *waiting, max_age=7 * _DAY, max_bytes=256 * _MIB)
    events = _stream(JOB_EV, subjects.ALL_EVENTS, max_age=1 * _DAY, max_bytes=512 * _MIB)
    return (
        # A full log refuses submissions; the job manager removes those of ended jobs before it is full.
        replace(
            logged,
            max_msg_size=256 * 1024,
            duplicate_window=_HOUR,
            # after a kill, a member of a cluster with `sync_interval: always` cuts its files back; nats-server 2.15
            # cannot do that with a compressed one, and the copy stays closed
            compression=StoreCompression.NONE,
            discard=DiscardPolicy.NEW,
        ),
        replace(
            queue,
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,  # with the next line: a job cannot be queued twice
            max_msgs_per_subject=1,
            max_msgs=settings.queue_limit,
            republish=RePublish(src=subjects.ALL_QUEUED, dest=subjects.LIVE_QUEUE, headers_only=True),
        ),
        replace(
            events,
            max_msgs_per_subject=500,
            allow_rollup_hdrs=True,  # only the newest preview of a job is kept
            duplicate_window=_HOUR,
            republish=RePublish(src=subjects.ALL_EVENTS, dest=subjects.LIVE_EVENTS),
        ),
        _stream(JOB_DLQ, subjects.ALL_DEAD, max_age=30 * _DAY, max_bytes=256 * _MIB),
        _stream(ADVISORY, subjects.MAX_DELIVERIES, max_age=7 * _DAY, max_bytes=64 * _MIB),
    )


def _webhook_streams() -> tuple[StreamConfig, ...]:
    endpoints = _key_value(WEBHOOKS, webhook_subjects.ALL_WEBHOOKS, _FOREVER, max_bytes=64 * _MIB)
    deliveries = _stream(WEBHOOK_Q, webhook_subjects.ALL_DELIVERIES, max_age=7 * _DAY, max_bytes=64 * _MIB)
    attempts = _stream(WEBHOOK_LOG, webhook_subjects.ALL_ATTEMPTS, max_age=7 * _DAY, max_bytes=128 * _MIB)
    copies = RePublish(src=webhook_subjects.ALL_DELIVERIES, dest=webhook_subjects.LIVE_DELIVERIES)
    # Without the bodies, which hold secrets.
    changes = RePublish(src=webhook_subjects.ALL_WEBHOOKS, dest=webhook_subjects.LIVE_ENDPOINTS, headers_only=True)
    return (
        replace(endpoints, republish=changes),
        replace(
            deliveries,
            max_msgs_per_subject=1,  # each attempt replaces the entry
            discard=DiscardPolicy.NEW,
            max_msgs=WAITING_WEBHOOKS,
            duplicate_window=_HOUR,
            republish=copies,
        ),
        replace(attempts, max_msgs_per_subject=LOGGED_ATTEMPTS),  # an equal share for each endpoint
    )


def _stream(name: str, *patterns: str, max_age: float, max_bytes: int) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=list(patterns),
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_age=max_age,
        max_msgs=-1,
        max_bytes=max_bytes,
        duplicate_window=120.0,
        allow_direct=True,
    )


def _key_value(stream: str, pattern: str, max_age: float, max_bytes: int = 256 * _MIB) -> StreamConfig:
    """Declare a key-value bucket with one value for each key, readable by `nats kv`."""
    values = _stream(stream, pattern, max_age=max_age, max_bytes=max_bytes)
    return replace(values, max_msgs_per_subject=1, discard=DiscardPolicy.NEW, allow_rollup_hdrs=True, deny_delete=True)


def _bucket(name: str, max_bytes: int) -> StreamConfig:
    """Declare an object bucket as in NATS ADR-20, readable by `nats obj`."""
    patterns = subjects.object_chunks(name, ">"), subjects.object_entry(name, ">")
    objects = _stream(bucket_stream(name), *patterns, max_age=BUCKET_LIFE_S[name], max_bytes=max_bytes)
    return replace(objects, discard=DiscardPolicy.NEW, allow_rollup_hdrs=True)


def _consumers(settings: StreamSettings) -> list[tuple[str, ConsumerConfig]]:
    found: list[tuple[str, ConsumerConfig]] = []
    for job_class in JobClass:
        found.append((JOB_LOG, _dispatcher(job_class)))
        found += [
            (
                JOB_Q,
                # No back-off list: it would replace ack_wait, and deliver a GPU job twice.
                replace(
                    _consumer(worker_consumer(job_class, task), subjects.queue_entries_in(job_class, task)),
                    ack_wait=settings.lease_s,
                    # An upper limit: workers count attempts by events, the broker counts all deliveries.
                    max_deliver=settings.max_deliver + settings.max_handbacks,
                ),
            )
            for task in Task
        ]
    # Events of a newer release stay unsettled until a projector of that release reads them.
    found.append((JOB_EV, replace(_consumer(PROJECTOR, subjects.ALL_EVENTS), max_ack_pending=_UNSETTLED)))
    found.append((JOB_EV, replace(_consumer(FAN_OUT, subjects.EVERY_END), max_ack_pending=_UNSETTLED)))
    found.append((ADVISORY, _consumer(REAPER, subjects.MAX_DELIVERIES)))
    return found


def _dispatcher(job_class: JobClass) -> ConsumerConfig:
    """Declare a consumer with deliveries that stay unsettled while jobs wait; a new dispatcher resets it."""
    consumer = _consumer(DISPATCHERS[job_class], subjects.submissions_in(job_class), ack_wait=1 * _DAY)
    return replace(consumer, max_ack_pending=_UNSETTLED)


def _consumer(name: str, subject: str, *, ack_wait: float = 30.0) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=name,
        filter_subject=subject,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ack_wait,
        max_ack_pending=1000,
    )
