"""Where words are kept, for how long, and who reads them: streams, consumers and buckets, declared as data.

`ensure` makes the broker look like this. It adds and updates; it never deletes, and it refuses to start on a stream
whose storage or retention cannot be changed into the declared one. Only the job manager runs it, since only it may;
all others wait in `declared` until it has.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    PersistMode,
    RePublish,
    RetentionPolicy,
    StorageType,
    StoreCompression,
    StreamConfig,
)
from nats.js.errors import APIError, NotFoundError

from shared import subjects
from shared.connection import ATTEMPT_S, translated
from shared.errors import BrokerUnavailable, ConfigError
from shared.messages import JobClass, Task
from shared.settings import StreamSettings

if TYPE_CHECKING:
    from nats.js.client import JetStreamContext

    from shared.bus import Bus

log = logging.getLogger(__name__)
JOB_LOG, JOB_Q, JOB_EV, JOB_DLQ, ADVISORY = "JOB_LOG", "JOB_Q", "JOB_EV", "JOB_DLQ", "ADVISORY"
JOBS, SESSIONS, OWNED = "KV_jobs", "KV_sessions", "KV_owned"
DISPATCHERS = {job_class: f"dispatcher-{job_class}" for job_class in JobClass}
PROJECTOR, REAPER = "projector", "reaper"
_HOUR, _DAY, _MIB = 3600.0, 86_400.0, 1024**2
# Inputs and results live as long as the log, so that whatever is logged can be replayed.
BUCKET_LIFE_S = {"inputs": 7 * _DAY, "results": 7 * _DAY, "debug": 1 * _DAY, "cache": 2 * _HOUR}
_LOOK_EVERY_S = 0.2
_ANSWER_S = 5.0  # a stream with three copies takes one second; while a cluster elects, it answers nothing at all
_IMMUTABLE = 10052
_NO_ROOM = 10047
_NO_CLUSTER = 10074
# What must not be weaker than declared, and the argument of `nats stream edit` that mends it.
_AMOUNTS = {
    "num_replicas": "--replicas={}",
    "max_age": "--max-age={:.0f}s",
    "max_msgs": "--max-msgs={}",
    "max_bytes": "--max-bytes={}",
    "duplicate_window": "--dupe-window={:.0f}s",
}
_RULES = {
    "discard": "--discard={}",
    "discard_new_per_subject": "--discard-per-subject",
    "max_msgs_per_subject": "--max-msgs-per-subject={}",
    "allow_direct": "--allow-direct",
}
_FIXED = ("storage", "retention")


def worker_consumer(job_class: JobClass, task: Task) -> str:
    """Name the pull consumer of one class and task in JOB_Q."""
    return f"{subjects.POOL}-{job_class}-{task}"


def bucket_stream(bucket: str) -> str:
    """Name the stream behind an object bucket."""
    return f"OBJ_{bucket}"


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything the broker keeps for us."""

    streams: tuple[StreamConfig, ...]
    consumers: tuple[tuple[str, ConsumerConfig], ...]


def declare(settings: StreamSettings) -> Topology:
    """Return the declaration for these settings."""
    buckets = (
        _bucket("inputs", settings.picture_bytes // 2),
        _bucket("results", settings.picture_bytes // 4),
        _bucket("debug", settings.picture_bytes // 8),
        # a cache makes room by itself; a picture that lost its chunks is read as not found
        replace(_bucket("cache", settings.picture_bytes // 8), discard=DiscardPolicy.OLD),
    )
    views = (
        # what the projector folds, under <user>.<job>; a view makes room by itself, or a full one would stop the queue
        replace(_key_value(JOBS, subjects.ALL_RECORDS, 7 * _DAY), discard=DiscardPolicy.OLD),
        _key_value(SESSIONS, subjects.ALL_SESSIONS, 1 * _DAY),
        # whose pictures are, under <owner>.<sha256>: as long as the pictures; an owner who is crowded out sends again
        replace(_key_value(OWNED, subjects.ALL_OWNED, BUCKET_LIFE_S["inputs"]), discard=DiscardPolicy.OLD),
    )
    streams = (*_job_streams(settings), *views, *buckets)
    return Topology(
        streams=tuple(replace(stream, num_replicas=settings.replicas) for stream in streams),
        consumers=tuple(_consumers(settings)),
    )


def _job_streams(settings: StreamSettings) -> tuple[StreamConfig, ...]:
    logged = _stream(JOB_LOG, *map(subjects.submits_in, JobClass), max_age=7 * _DAY, max_bytes=512 * _MIB)
    waiting = (subjects.queued_in(job_class, task) for job_class in JobClass for task in Task)
    queue = _stream(JOB_Q, *waiting, max_age=7 * _DAY, max_bytes=256 * _MIB)
    events = _stream(JOB_EV, subjects.ALL_EVENTS, max_age=1 * _DAY, max_bytes=512 * _MIB)
    return (
        replace(logged, max_msg_size=256 * 1024, duplicate_window=_HOUR, compression=StoreCompression.S2),
        replace(
            queue,
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,  # with the next line: one job cannot be queued twice
            max_msgs_per_subject=1,
            max_msgs=settings.queue_limit,
            republish=RePublish(src=subjects.ALL_QUEUED, dest=subjects.LIVE_QUEUE, headers_only=True),
        ),
        replace(
            events,
            max_msgs_per_subject=500,
            allow_rollup_hdrs=True,  # of a job's previews only the newest is kept
            duplicate_window=_HOUR,
            republish=RePublish(src=subjects.ALL_EVENTS, dest=subjects.LIVE_EVENTS),
        ),
        _stream(JOB_DLQ, subjects.ALL_DEAD, max_age=30 * _DAY, max_bytes=256 * _MIB),
        _stream(ADVISORY, subjects.MAX_DELIVERIES, max_age=7 * _DAY, max_bytes=64 * _MIB),
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


def _key_value(stream: str, pattern: str, max_age: float) -> StreamConfig:
    """A key-value bucket with one value for each key; `nats kv` reads it."""
    values = _stream(stream, pattern, max_age=max_age, max_bytes=256 * _MIB)
    return replace(values, max_msgs_per_subject=1, discard=DiscardPolicy.NEW, allow_rollup_hdrs=True, deny_delete=True)


def _bucket(name: str, max_bytes: int) -> StreamConfig:
    """Object store layout of NATS ADR-20, so `nats obj` reads what we write."""
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
                # No back-off list: it would replace ack_wait, and a GPU job would be delivered twice.
                replace(
                    _consumer(worker_consumer(job_class, task), subjects.queued_in(job_class, task)),
                    ack_wait=settings.lease_s,
                    # The backstop: workers count attempts by the job's events, the broker counts every delivery.
                    max_deliver=settings.max_deliver + settings.max_handbacks,
                ),
            )
            for task in Task
        ]
    found.append((JOB_EV, _consumer(PROJECTOR, subjects.ALL_EVENTS)))
    found.append((ADVISORY, _consumer(REAPER, subjects.MAX_DELIVERIES)))
    return found


def _dispatcher(job_class: JobClass) -> ConsumerConfig:
    """Holds submits unsettled for as long as they wait; a new dispatcher asks for them again itself."""
    return replace(
        _consumer(DISPATCHERS[job_class], subjects.submits_in(job_class), ack_wait=1 * _DAY), max_ack_pending=50_000
    )


def _consumer(name: str, subject: str, *, ack_wait: float = 30.0) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=name,
        filter_subject=subject,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ack_wait,
        max_ack_pending=1000,
    )


async def ensure(bus: Bus, settings: StreamSettings) -> None:
    """Declare everything. Idempotent. Raises BrokerUnavailable, or ConfigError where the broker cannot comply."""
    bus.require_connection()
    jetstream = bus.client.jetstream(timeout=None)  # see Connection.request
    topology = declare(settings)
    with translated():
        for stream in topology.streams:  # each with its consumers: `declared` looks for streams only
            async with asyncio.timeout(_ANSWER_S):
                await _ensure_stream(jetstream, stream)
            for stream_name, consumer in topology.consumers:
                if stream_name == stream.name:
                    async with asyncio.timeout(_ANSWER_S):
                        await jetstream.add_consumer(stream_name, config=consumer)


async def declared(bus: Bus) -> None:
    """Wait until there is a broker and it has all that is declared, for everybody but the job manager.

    Raises ConfigError when the broker will never let us in.
    """
    await bus.opened()
    told: set[str] = set()
    while missing := await _missing(bus):
        if missing != told:
            log.info("streams.awaited", extra={"streams": sorted(missing)})
            told = missing
        await asyncio.sleep(_LOOK_EVERY_S)  # it may be another broker than the one that would tell us


async def _missing(bus: Bus) -> set[str]:
    wanted = {str(stream.name) for stream in declare(StreamSettings()).streams}
    try:
        answer = json.loads((await bus.request(subjects.api("STREAM.NAMES"))).data)
    except BrokerUnavailable:
        return wanted
    return wanted - set(answer.get("streams") or ())


async def _ensure_stream(jetstream: JetStreamContext, wanted: StreamConfig) -> None:
    name = str(wanted.name)
    try:
        live = (await jetstream.stream_info(name)).config
    except NotFoundError:
        live = None
    try:
        if live is None:
            await jetstream.add_stream(wanted)
        elif differences(wanted, live):
            await jetstream.update_stream(wanted)
    except APIError as error:
        if error.err_code == _IMMUTABLE:
            raise ConfigError(
                f"The stream {name} exists with another storage or retention; remove it with `nats stream rm {name}`."
            ) from error
        if error.err_code == _NO_ROOM:
            raise ConfigError(
                f"The broker has no room for {name}; lower STREAMS_PICTURE_BYTES or raise max_file_store."
            ) from error
        if error.err_code == _NO_CLUSTER:
            raise ConfigError(
                f"The broker is no cluster and cannot keep {wanted.num_replicas} copies; set STREAMS_REPLICAS to 1."
            ) from error
        raise


def differences(wanted: StreamConfig, live: StreamConfig) -> dict[str, tuple[Any, Any]]:
    """Return the fields that are declared and differ, as (wanted, live)."""
    return {
        field: (value, getattr(live, field))
        for field, value in vars(wanted).items()
        if value is not None and getattr(live, field) != value
    }


async def weaknesses(bus: Bus, settings: StreamSettings) -> list[str]:
    """Tell where accepted work is kept less safely than declared: a sentence for each stream, with the line to fix it.

    Raises BrokerUnavailable.
    """
    bus.require_connection()
    with translated():
        async with asyncio.timeout(ATTEMPT_S):
            infos = await bus.client.jetstream(timeout=None).streams_info()  # see Connection.request
    live = {str(info.config.name): info.config for info in infos}
    told = [_weakness(wanted, live.get(str(wanted.name))) for wanted in declare(settings).streams]
    return [sentence for sentence in told if sentence]


def _weakness(wanted: StreamConfig, live: StreamConfig | None) -> str:
    name = wanted.name
    if live is None:
        return f"{name} is missing; the job manager makes it: see that it runs."
    weak = {
        field: (_plain(wants), _plain(has))
        for field, (wants, has) in differences(wanted, live).items()
        if field in {*_RULES, *_FIXED} or (field in _AMOUNTS and _limit(has) < _limit(wants))
    }
    if live.persist_mode == PersistMode.ASYNC:
        weak["persist_mode"] = ("default", "async")
    if not weak:
        return ""
    what = " and ".join(f"{field} {has} instead of {wants}" for field, (wants, has) in weak.items())
    arguments = {**_AMOUNTS, **_RULES}
    if not weak.keys() <= arguments.keys():
        return f"{name} has {what}; remove it with `nats stream rm {name} -f`, the job manager makes it anew."
    edit = " ".join(arguments[field].format(wants) for field, (wants, _) in weak.items())
    return f"{name} has {what}; mend it with `nats stream edit {name} {edit} -f`."


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _limit(value: float) -> float:
    """The broker writes 0 or -1 for no limit."""
    return value if value > 0 else math.inf
