"""One random act of violence a round: a part dies, is asked to end or stands still, or the broker forgets something."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import nats.errors

from shared import topology
from tests.chaos.engine import PAST_THE_LEASE_S
from tests.chaos.parts import happens

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from random import Random

    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.chaos.parts import Parts

_ACTS = {"kill": 5, "term": 3, "freeze": 3, "delete-consumer": 1, "delete-view": 1}  # with their weights


class Violence:
    """Hurts the system as the dice decide; `acts` are the moments (seconds since the epoch) with what was done."""

    def __init__(
        self, dice: Random, parts: Parts, bus: Bus, settings: StreamSettings, say: Callable[[str], None]
    ) -> None:
        self._dice = dice
        self._parts = parts
        self._bus = bus
        self._consumers = [
            (stream, str(consumer.durable_name)) for stream, consumer in topology.declare(settings).consumers
        ]
        self._say = say
        self.acts: list[tuple[float, str]] = []

    async def act(self, over: asyncio.Event) -> None:
        """Do one thing; a part that is frozen thaws before this returns."""
        (act,) = self._dice.choices(list(_ACTS), list(_ACTS.values()))
        victim, (stream, consumer) = self._dice.choice(self._parts.names), self._dice.choice(self._consumers)
        what = {"delete-consumer": f"delete consumer {stream}/{consumer}", "delete-view": f"delete {topology.JOBS}"}
        self._say(what.get(act, f"{act} {victim}"))
        self.acts.append((time.time(), what.get(act, f"{act} {victim}")))
        match act:
            case "kill":
                self._parts.send(victim, signal.SIGKILL)
            case "term":
                self._parts.send(victim, signal.SIGTERM)
            case "freeze":
                await self._freeze(victim, over)
            case _:
                await self._forget(act, stream, consumer)

    async def _freeze(self, victim: str, over: asyncio.Event) -> None:
        if self._parts.send(victim, signal.SIGSTOP):
            await happens(over, PAST_THE_LEASE_S)
            self._parts.send(victim, signal.SIGCONT)

    async def _forget(self, act: str, stream: str, consumer: str) -> None:
        jetstream = self._bus.client.jetstream(timeout=2)
        try:
            if act == "delete-view":
                await jetstream.delete_stream(topology.JOBS)
            else:
                await jetstream.delete_consumer(stream, consumer)
        except (nats.errors.Error, TimeoutError) as error:
            self._say(f"could not: {type(error).__name__}")
