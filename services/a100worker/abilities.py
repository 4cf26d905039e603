"""Announces the abilities of this worker to the gateways, which list them for clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from statistics import median_low
from typing import TYPE_CHECKING

from services.a100worker.backend import parameters_of
from shared import subjects
from shared.errors import BrokerUnavailable
from shared.messages import Task, TaskAbility, WorkerAbilities

if TYPE_CHECKING:
    from services.a100worker.backend import Engine
    from services.a100worker.presence import Presence
    from shared.bus import Bus

_LAST_JOBS = 20
_EVERY_S = 2.0  # a new gateway lists every worker after this time


class Abilities:
    """The engine's parameters by task, and the durations of its last jobs."""

    def __init__(self, presence: Presence, engine: Engine) -> None:
        self._presence = presence
        self._engine = engine
        self._took_ms: dict[Task, deque[int]] = {task: deque(maxlen=_LAST_JOBS) for task in Task}

    def record(self, task: Task, took_ms: int) -> None:
        """Add the duration of a job that is done."""
        self._took_ms[task].append(took_ms)

    def report(self) -> WorkerAbilities:
        """Return the present abilities."""
        return WorkerAbilities(
            worker=self._presence.name,
            engine=self._engine.name,
            model=self._presence.model,
            device=self._presence.device,
            job=self._presence.job,
            state=self._presence.state,
            tasks={
                task: TaskAbility(
                    parameters=sorted(parameters_of(self._engine, task)),
                    typical_ms=median_low(took_ms) if took_ms else None,
                )
                for task, took_ms in self._took_ms.items()
            },
        )

    async def announce(self, bus: Bus) -> None:
        """Send the report every two seconds until cancelled. While the broker is away, nothing is sent."""
        while True:
            await self.announce_once(bus)
            await asyncio.sleep(_EVERY_S)

    async def announce_once(self, bus: Bus) -> None:
        """Send the report, unless the broker is away."""
        with contextlib.suppress(BrokerUnavailable):
            await bus.emit(subjects.WORKERS, self.report().model_dump_json(exclude_none=True).encode())
