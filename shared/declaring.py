"""Create the declared streams and consumers on the broker, wait for them, and find those stored less safely.

`declare_streams` adds and updates; it never deletes, and it raises ConfigError on a stream whose storage or retention
cannot be changed to the declared one. Only the job manager may run it; all other services call `wait_until_declared`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from nats.js.api import DiscardPolicy, PersistMode
from nats.js.errors import APIError, NotFoundError

from shared import subjects
from shared.connection import ATTEMPT_S, translate_errors
from shared.errors import BrokerUnavailable, ConfigError
from shared.settings import StreamSettings
from shared.topology import JOB_EV, JOB_LOG, JOB_Q, JOBS, build_topology

if TYPE_CHECKING:
    from collections.abc import Iterator

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
_STRICTER = {"discard": (DiscardPolicy.NEW,), "discard_new_per_subject": (True,), "allow_direct": (True,)}
_FIXED = ("storage", "retention")
_COUNTED = {JOB_LOG, JOB_EV}  # records contain their sequences


async def declare_streams(bus: Bus, settings: StreamSettings, *, force: bool = False) -> None:
    """Create or update all streams and consumers. With `force`, delete unchangeable ones with their messages.

    Raises BrokerUnavailable, or ConfigError if the broker cannot.
    """
    bus.require_connection()
    declaration = _Declaration(bus.client.jetstream(timeout=None), settings, force=force)  # Connection.request
    topology = build_topology(settings)
    for stream in topology.streams:  # each stream with its consumers: `wait_until_declared` checks streams only
        with _name_refused(f"the stream {stream.name}"):
            await declaration.ensure_stream(stream)
        for stream_name, consumer in topology.consumers:
            if stream_name == stream.name:
                with _name_refused(f"the consumer {consumer.durable_name} of the stream {stream_name}"):
                    await declaration.ensure_consumer(stream_name, consumer)


@contextmanager
def _name_refused(what: str) -> Iterator[None]:
    """Raise BrokerUnavailable with the description from the broker's error."""
    with translate_errors():
        try:
            yield
        except APIError as error:
            raise BrokerUnavailable(f"The broker refuses {what}: {error.description or 'no reason given'}.") from error


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


class _Declaration:
    """One run of the declaration. Each method raises ConfigError, APIError and the client's errors."""

    def __init__(self, jetstream: JetStreamContext, settings: StreamSettings, *, force: bool) -> None:
        self._jetstream = jetstream
        self._repair = settings.repair
        self._forced = force

    async def ensure_stream(self, wanted: StreamConfig) -> None:
        """Create or update one stream."""
        name = str(wanted.name)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._create_or_update(name, wanted)
        except APIError as error:
            if error.err_code == _IMMUTABLE and self._forced:
                log.warning("streams.replaced", extra={"stream": name})
                await self._jetstream.delete_stream(name)
                await self._jetstream.add_stream(wanted)
                return
            if sentence := self._describe(error, name, wanted):
                raise ConfigError(sentence) from error
            raise

    async def _create_or_update(self, name: str, wanted: StreamConfig) -> None:
        live = await self._find(name)
        if live is not None:
            if differences(wanted, live):
                await self._jetstream.update_stream(wanted)
        elif name in _COUNTED and await self._find(JOBS) is not None:
            # Records and open event streams contain sequences of the deleted stream. The new stream must not repeat
            # them: readers would skip its events as old ones, and a job would get another job's submission.
            await self._jetstream.add_stream(replace(wanted, first_seq=time.time_ns() // 1000))
        else:
            await self._jetstream.add_stream(wanted)

    async def _find(self, name: str) -> StreamConfig | None:
        try:
            return (await self._jetstream.stream_info(name)).config
        except NotFoundError:
            return None

    def _describe(self, error: APIError, name: str, wanted: StreamConfig) -> str | None:
        """Return the sentence for an error that only an operator can correct."""
        if error.err_code == _IMMUTABLE:
            return (
                f"The stream {name} exists with another storage or retention; "
                f"{self._delete_by(f'nats stream rm {name}')}."
            )
        if error.err_code == _STORAGE_FULL:
            return f"The broker has too little storage for {name}; lower STREAMS_PICTURE_BYTES or raise max_file_store."
        if error.err_code == _NOT_A_CLUSTER:
            return (
                f"The broker is not a cluster and cannot keep {wanted.num_replicas} copies; set STREAMS_REPLICAS to 1."
            )
        return None

    async def ensure_consumer(self, stream: str, wanted: ConsumerConfig) -> None:
        """Create or update one consumer; replace one that the broker cannot change, if that is safe."""
        name = str(wanted.durable_name)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._jetstream.add_consumer(stream, config=wanted)
        except APIError as error:
            if error.err_code != _CONSUMER_NOT_STORED:
                raise
            reason = error.description or ""
        else:
            return
        # A deletion removes the folder last. If the consumer was created again meanwhile, it loses its folder, and the
        # broker answers each update with this error.
        if _FOLDER_IS_GONE not in reason and not self._forced and await self._is_at_work(stream, name):
            raise ConfigError(
                f"The consumer {name} of the stream {stream} is not as declared ({reason}), and workers run jobs that "
                f"it delivered; stop the workers, then {self._delete_by(f'nats consumer rm {stream} {name} -f')}."
            )
        log.warning("streams.consumer-replaced", extra={"stream": stream, "consumer": name, "reason": reason})
        # The streams keep their messages. A new consumer delivers all of them, and every reader skips settled ones.
        async with asyncio.timeout(_ANSWER_S):
            await self._jetstream.delete_consumer(stream, name)
            await self._jetstream.add_consumer(stream, config=wanted)

    async def _is_at_work(self, stream: str, name: str) -> bool:
        """Return whether a job would run twice at once if its consumer were replaced."""
        if stream != JOB_Q:
            return False
        async with asyncio.timeout(_ANSWER_S):
            return bool((await self._jetstream.consumer_info(stream, name)).num_ack_pending)

    def _delete_by(self, command: str) -> str:
        return f"correct it with `{self._repair}`, which deletes it" if self._repair else f"delete it with `{command}`"


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
        if _is_weaker(field, wants, has)
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


def _is_weaker(field: str, wants: Any, has: Any) -> bool:
    """Return whether a difference makes a stream less safe. A newer release may have declared a stricter rule."""
    if field in _AMOUNTS:
        return _limit(has) < _limit(wants)
    return field in {*_RULES, *_FIXED} and has not in _STRICTER.get(field, ())


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _limit(value: float) -> float:
    """Return infinity for 0 or -1, which mean no limit."""
    return value if value > 0 else math.inf
