"""One random fault per round: a part dies, ends or freezes, or the broker loses data or is full."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import nats.errors

from shared import subjects, topology
from shared.errors import BrokerUnavailable
from tests.chaos.faults.clocks import SKEWS_S, skew
from tests.chaos.faults.disk import fill_disk
from tests.chaos.faults.engine import PAST_THE_LEASE_S
from tests.chaos.load import bombs
from tests.chaos.parts import happens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.chaos.parts import Parts

_ACTS = {  # with their weights
    "kill": 10,
    "term": 6,
    "freeze": 6,
    "delete-consumer": 2,
    "delete-stream": 3,
    "fill-results": 2,
    "garbage-message": 3,
    "bomb-upload": 3,
    "skew-clock": 4,
    "fill-disk": 1,
}
# Streams that may be lost without losing a job: the jobs are in the log and the events.
_EXPENDABLE = (topology.JOB_Q, topology.JOB_Q, topology.JOBS, topology.SESSIONS, topology.ADVISORY)
_RESULTS = topology.bucket_stream("results")
_FULL_S = 1.5
_BOMBS_AT_ONCE = 3
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of harm: `disk` is the folder of the broker's store, `clocks` the one of the services' clocks."""

    parts: Parts
    bus: Bus
    http: httpx.AsyncClient
    settings: StreamSettings
    disk: Path | None
    clocks: Path | None


class Violence:
    """Causes random faults; `acts` has the time (seconds since the epoch) and the kind of each."""

    def __init__(self, dice: Random, targets: Targets, say: Callable[[str], None]) -> None:
        self._dice = dice
        self._parts = targets.parts
        self._bus = targets.bus
        self._http = targets.http
        declared = topology.build_topology(targets.settings)
        self._consumers = [(stream, str(consumer.durable_name)) for stream, consumer in declared.consumers]
        self._say = say
        self._disk = targets.disk
        self._clocks = targets.clocks
        self.acts: list[tuple[float, str]] = []
        self.bad_answers: list[str] = []

    async def act(self, over: asyncio.Event) -> None:
        """Cause one fault. A freeze or a full disk is over before this returns."""
        weights = {**_ACTS, **({} if self._disk else {"fill-disk": 0}), **({} if self._clocks else {"skew-clock": 0})}
        (act,) = self._dice.choices(list(weights), list(weights.values()))
        victim, stream = self._dice.choice(self._parts.names), self._dice.choice(_EXPENDABLE)
        consumer = self._dice.choice(self._consumers)
        objects = {"delete-consumer": "/".join(consumer), "delete-stream": stream}
        bomb, service = self._dice.choice(bombs.KINDS), self._dice.choice([n for n in self._parts.names if n != "nats"])
        skew_s = self._dice.choice(SKEWS_S)
        objects |= {"bomb-upload": bomb, "skew-clock": f"{service} {skew_s:+d} s"}
        objects |= dict.fromkeys(("fill-results", "fill-disk", "garbage-message"), "")
        what = f"{act} {objects.get(act, victim)}".rstrip()
        self._say(what)
        self.acts.append((time.time(), what))
        match act:
            case "kill":
                self._parts.send(victim, signal.SIGKILL)
            case "term":
                self._parts.send(victim, signal.SIGTERM)
            case "freeze":
                await self._freeze(victim, over)
            case "fill-disk":
                await self._fill_disk(over)
            case "bomb-upload":
                await self._upload_bombs(bomb)
            case "skew-clock" if self._clocks:
                skew(self._clocks, service, skew_s)
            case _:
                try:
                    await self._harm(act, stream, consumer, over)
                except (nats.errors.Error, TimeoutError, BrokerUnavailable) as error:
                    self._say(f"could not: {type(error).__name__}")

    async def _freeze(self, victim: str, over: asyncio.Event) -> None:
        if self._parts.send(victim, signal.SIGSTOP):
            await happens(over, PAST_THE_LEASE_S)
            self._parts.send(victim, signal.SIGCONT)

    async def _upload_bombs(self, kind: str) -> None:
        """Send some bombs at once. The gateway may be down, but it must not answer that it failed."""
        data = await asyncio.to_thread(bombs.build, kind, self._dice)
        sent = (self._http.post("/v1/images", content=data, timeout=_TIMEOUT_S) for _ in range(_BOMBS_AT_ONCE))
        for answer in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(answer, httpx.Response) and answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
                self.bad_answers.append(f"{kind}: {answer.status_code} {answer.text[:200]}")
            elif isinstance(answer, BaseException) and not isinstance(answer, httpx.HTTPError):
                raise answer

    async def _harm(self, act: str, stream: str, consumer: tuple[str, str], over: asyncio.Event) -> None:
        jetstream = self._bus.client.jetstream(timeout=2)
        if act == "delete-stream":
            await jetstream.delete_stream(stream)
        elif act == "delete-consumer":
            await jetstream.delete_consumer(*consumer)
        elif act == "garbage-message":
            await self._publish_garbage()
        else:
            live = (await jetstream.stream_info(_RESULTS)).config
            await jetstream.update_stream(replace(live, max_bytes=1))
            await happens(over, _FULL_S)
            await jetstream.update_stream(live)

    async def _publish_garbage(self) -> None:
        """Publish random bytes among the events of a job, also in the place of its end."""
        queued = await self._bus.subjects_in(topology.JOB_EV, subjects.EVERY_QUEUED_EVENT)
        if queued:
            job_id = subjects.job_of_event(self._dice.choice(queued))
            kind = self._dice.choice((subjects.TERMINAL, subjects.TERMINAL, "progress", "returned"))
            garbage = self._dice.randbytes(self._dice.choice((0, 20, 2_000)))
            await self._bus.publish(subjects.event(job_id, kind), garbage)

    async def _fill_disk(self, over: asyncio.Event) -> None:
        """Fill the disk, then free it and restart the broker, as an operator would."""
        if self._disk is not None:
            with fill_disk(self._disk):
                await happens(over, _FULL_S)
            self._parts.send("nats", signal.SIGTERM)
