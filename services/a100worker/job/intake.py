"""Takes the next job from the queue; which line it comes from, `Lines` decides."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from services.a100worker.job.queues import ALL_LINES, Line, Lines
from shared import subjects
from shared.deliveries import Puller
from shared.lifecycle import race
from shared.messages import JobClass, Task
from shared.topology import JOB_Q, worker_consumer

if TYPE_CHECKING:
    from types import TracebackType

    from shared.bus import Bus, StoredMessage
    from shared.deliveries import Delivery

_MOMENT_S = 0.01  # from the announcement of a job until its consumer has heard of it too, on a busy broker


class Intake:
    """Looks where the broker has announced a job, and now and then everywhere, for those that come back.

    An open pull on each consumer would be simpler, but two of them may answer at once, and a worker must never hold
    a job that it does not run.
    """

    def __init__(self, bus: Bus, *, idle_poll_s: float, affinity_s: float) -> None:
        self._bus = bus
        self._idle_poll_s = idle_poll_s
        self.lines = Lines(affinity_s)
        self._announced = asyncio.Event()
        self._news: set[Line] = set()
        self._looked_everywhere = -idle_poll_s
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Listen for announcements."""
        self._puller = await self._stack.enter_async_context(Puller(self._bus))
        await self._stack.enter_async_context(self._bus.subscribe(subjects.LIVE_QUEUE, self._announce))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        await self._stack.aclose()

    def _announce(self, stored: StoredMessage) -> None:
        address = subjects.parse_queue_entry(stored.subject)
        line = JobClass(address.job_class), Task(address.task)
        self.lines.note(line)
        self._news.add(line)
        self._announced.set()

    async def receive(self, stop: asyncio.Event) -> Delivery | None:
        """Wait for a job and return it, or None when it is time to stop. Raises BrokerUnavailable."""
        while not stop.is_set():
            self._announced.clear()  # before the look, so that no announcement is missed
            delivery = await self._take()
            if delivery is not None:
                return delivery
            await race(self._announced.wait(), stop.wait(), timeout_s=self._idle_poll_s)
        return None

    async def _take(self) -> Delivery | None:
        now = time.monotonic()
        if now - self._looked_everywhere >= self._idle_poll_s:
            self._looked_everywhere = now
            self.lines.note(*ALL_LINES)
        for line in self.lines.in_order():
            self.lines.look(line)
            wait_s = _MOMENT_S if line in self._news else 0.0
            self._news.discard(line)
            delivery = await self._puller.pull(JOB_Q, worker_consumer(*line), wait_s=wait_s)
            if delivery is not None:
                self.lines.took(line)
                return delivery
        return None
