"""The workers, from their announcements every two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from prometheus_client import Gauge

from shared import subjects
from shared.messages import WorkerAbilities
from shared.reading import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus import Bus, StoredMessage

WORKERS = Gauge("artmancer_workers", "Workers, by the state in their last announcement", ("state",))
_FORGOTTEN_S = 10.0  # five announcements: a worker with a busy processor is late
_LOST_S = 600.0  # how long a worker that disappeared without a stop is reported
_COUNT_S = 2.0
_FIRST_S = 2.5  # until every worker has announced itself to a gateway that has just started


class Workers:
    """Keeps the newest announcement of each worker: present for ten seconds, then lost for ten minutes."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._seen: dict[str, tuple[float, WorkerAbilities]] = {}
        self._any = asyncio.Event()

    async def run(self) -> None:
        """Read the announcements until cancelled. Raises ConfigError if the broker refuses the connection."""
        await self._bus.wait_until_open()
        async with self._bus.subscribe(subjects.WORKERS, self._receive):
            while True:
                self._count()
                await asyncio.sleep(_COUNT_S)  # a missing announcement is no event

    async def present(self) -> list[WorkerAbilities]:
        """Return the abilities of the workers that take jobs, by name. Waits a moment if none is known yet."""
        if not self._any.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_S):
                    await self._any.wait()
        return [each for each, silent_s in self._list() if silent_s <= _FORGOTTEN_S and each.state == "ready"]

    def instances(self) -> list[dict[str, Any]]:
        """Return name, engine, model, device, state and job of each worker, by name, for operators."""
        return [_describe(abilities, silent_s) for abilities, silent_s in self._list()]

    def note(self, abilities: WorkerAbilities) -> None:
        """Keep an announcement. One of a worker that stops ends its presence."""
        if abilities.state == "stopped":
            self._seen.pop(abilities.worker, None)
        else:
            self._seen[abilities.worker] = self._clock(), abilities
        self._any.set()

    def _list(self) -> list[tuple[WorkerAbilities, float]]:
        """Return each worker that was seen, by name, with the seconds since then."""
        now = self._clock()
        self._seen = {name: seen for name, seen in self._seen.items() if now - seen[0] <= _LOST_S}
        return [(abilities, now - at) for _, (at, abilities) in sorted(self._seen.items())]

    def _count(self) -> None:
        counts = Counter(each["state"] for each in self.instances())
        for state in ("ready", "draining", "lost"):
            WORKERS.labels(state).set(counts[state])

    def _receive(self, stored: StoredMessage) -> None:
        self.note(read(WorkerAbilities, stored.data))


def _describe(abilities: WorkerAbilities, silent_s: float) -> dict[str, Any]:
    found = {
        "instance": abilities.worker,
        "engine": abilities.engine,
        "model": abilities.model,
        "device": abilities.device,
        "state": abilities.state if silent_s <= _FORGOTTEN_S else "lost",
        "job": abilities.job,
        "silent_s": round(silent_s) if silent_s > _FORGOTTEN_S else None,
    }
    return {name: value for name, value in found.items() if value is not None}
