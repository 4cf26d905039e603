"""The workers that live, from what they announce every two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from shared import subjects
from shared.messages import WorkerAbilities
from shared.reading import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus import Bus, StoredMessage

_FORGOTTEN_S = 10.0  # five announcements: a worker with a busy processor is late
_FIRST_S = 2.5  # until every worker has announced itself to a gateway that has just started


class Workers:
    """Keeps the newest announcement of each worker for ten seconds."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._seen: dict[str, tuple[float, WorkerAbilities]] = {}
        self._any = asyncio.Event()

    async def run(self) -> None:
        """Read the announcements until cancelled. Raises ConfigError if the broker refuses the connection."""
        await self._bus.wait_until_open()
        async with self._bus.subscribe(subjects.WORKERS, self._receive):
            await asyncio.Event().wait()

    async def present(self) -> list[WorkerAbilities]:
        """Return what the living workers can do, by name. Waits a moment if the first one is not yet known."""
        if not self._any.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_S):
                    await self._any.wait()
        oldest = self._clock() - _FORGOTTEN_S
        self._seen = {name: seen for name, seen in self._seen.items() if seen[0] >= oldest}
        return [self._seen[name][1] for name in sorted(self._seen)]

    def note(self, abilities: WorkerAbilities) -> None:
        """Keep an announcement."""
        self._seen[abilities.worker] = self._clock(), abilities
        self._any.set()

    def _receive(self, stored: StoredMessage) -> None:
        self.note(read(WorkerAbilities, stored.data))
