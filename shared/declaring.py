"""Create the declared streams and consumers on the broker, wait for them, and find those kept less safely.

`declare_streams` adds and updates; it never deletes, and it raises ConfigError on a stream whose storage or retention
cannot be changed to the declared one. Only the job manager may run it; all other services call `wait_until_declared`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from enum import Enum
from typing import TYPE_CHECKING, Any

from nats.js.api import PersistMode
from nats.js.errors import APIError, NotFoundError

from shared import subjects
from shared.connection import ATTEMPT_S, translate_errors
from shared.errors import BrokerUnavailable, ConfigError
from shared.settings import StreamSettings
from shared.topology import build_topology

if TYPE_CHECKING:
    from nats.js.api import ConsumerConfig, StreamConfig
    from nats.js.client import JetStreamContext

    from shared.bus import Bus

log = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.2
_ANSWER_S = 5.0  # a stream with three copies takes one second; a cluster does not reply during an election
_IMMUTABLE = 10052
_STORAGE_FULL = 10047
_NOT_A_CLUSTER = 10074
_CONSUMER_NOT_STORED = 10012
_FOLDER_IS_GONE = "no such file or directory"
# The fields that may not be weaker than declared, with the option of `nats stream edit` that corrects each.
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


async def declare_streams(bus: Bus, settings: StreamSettings) -> None:
    """Create or update all streams and consumers. Raises BrokerUnavailable, or ConfigError if the broker cannot."""
    bus.require_connection()
    jetstream = bus.client.jetstream(timeout=None)  # see Connection.request
    topology = build_topology(settings)
    with translate_errors():
        for stream in topology.streams:  # each stream with its consumers: `wait_until_declared` checks streams only
            async with asyncio.timeout(_ANSWER_S):
                await _ensure_stream(jetstream, stream)
            for stream_name, consumer in topology.consumers:
                if stream_name == stream.name:
                    async with asyncio.timeout(_ANSWER_S):
                        await _ensure_consumer(jetstream, stream_name, consumer)


async def wait_until_declared(bus: Bus) -> None:
    """Wait until the broker has all declared streams. For all services except the job manager, which creates them.

    Raises ConfigError when the broker will never accept us.
    """
    await bus.wait_until_open()
    logged: set[str] = set()
    while missing := await _missing(bus):
        if missing != logged:
            log.info("streams.awaited", extra={"streams": sorted(missing)})
            logged = missing
        await asyncio.sleep(_LOOK_EVERY_S)  # polling also works if a reconnect reaches another broker


async def _missing(bus: Bus) -> set[str]:
    wanted = {str(stream.name) for stream in build_topology(StreamSettings()).streams}
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
                f"The stream {name} exists with another storage or retention; delete it with `nats stream rm {name}`."
            ) from error
        if error.err_code == _STORAGE_FULL:
            raise ConfigError(
                f"The broker has too little storage for {name}; lower STREAMS_PICTURE_BYTES or raise max_file_store."
            ) from error
        if error.err_code == _NOT_A_CLUSTER:
            raise ConfigError(
                f"The broker is not a cluster and cannot keep {wanted.num_replicas} copies; set STREAMS_REPLICAS to 1."
            ) from error
        raise


async def _ensure_consumer(jetstream: JetStreamContext, stream: str, wanted: ConsumerConfig) -> None:
    try:
        await jetstream.add_consumer(stream, config=wanted)
    except APIError as error:
        if error.err_code != _CONSUMER_NOT_STORED or _FOLDER_IS_GONE not in (error.description or ""):
            raise
        # A deletion removes the folder last, so it can remove that of a consumer which was just created again. The
        # broker then answers each update with this error. The streams keep their messages; a new consumer has them all.
        log.warning("streams.consumer-replaced", extra={"consumer": wanted.durable_name})
        await jetstream.delete_consumer(stream, str(wanted.durable_name))
        await jetstream.add_consumer(stream, config=wanted)


def differences(wanted: StreamConfig, live: StreamConfig) -> dict[str, tuple[Any, Any]]:
    """Return the declared fields that differ, as (wanted, live)."""
    return {
        field: (value, getattr(live, field))
        for field, value in vars(wanted).items()
        if value is not None and getattr(live, field) != value
    }


async def find_weaknesses(bus: Bus, settings: StreamSettings) -> list[str]:
    """Return a sentence for each stream that keeps messages less safely than declared, with the command to correct it.

    Raises BrokerUnavailable.
    """
    bus.require_connection()
    with translate_errors():
        async with asyncio.timeout(ATTEMPT_S):
            infos = await bus.client.jetstream(timeout=None).streams_info()  # see Connection.request
    live = {str(info.config.name): info.config for info in infos}
    sentences = [_weakness(wanted, live.get(str(wanted.name))) for wanted in build_topology(settings).streams]
    return [sentence for sentence in sentences if sentence]


def _weakness(wanted: StreamConfig, live: StreamConfig | None) -> str:
    name = wanted.name
    if live is None:
        return f"{name} is missing; start the job manager, which creates it."
    weak = {
        field: (_plain(wants), _plain(has))
        for field, (wants, has) in differences(wanted, live).items()
        if field in {*_RULES, *_FIXED} or (field in _AMOUNTS and _limit(has) < _limit(wants))
    }
    if live.persist_mode == PersistMode.ASYNC:
        weak["persist_mode"] = ("default", "async")
    if not weak:
        return ""
    changes = " and ".join(f"{field} {has} instead of {wants}" for field, (wants, has) in weak.items())
    arguments = {**_AMOUNTS, **_RULES}
    if not weak.keys() <= arguments.keys():
        return f"{name} has {changes}; delete it with `nats stream rm {name} -f`, the job manager creates it again."
    edit = " ".join(arguments[field].format(wants) for field, (wants, _) in weak.items())
    return f"{name} has {changes}; correct it with `nats stream edit {name} {edit} -f`."


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _limit(value: float) -> float:
    """Return infinity for 0 or -1, which mean no limit."""
    return value if value > 0 else math.inf
