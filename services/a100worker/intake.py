"""Takes the next job from the queue: interactive before batch, and of one class first the task done last."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from shared import deliveries, subjects
from shared.messages import JobClass, Task
from shared.topology import JOB_Q, worker_consumer

if TYPE_CHECKING:
    from types import TracebackType

    from shared.bus import Bus, Stored
    from shared.deliveries import Delivery


class Intake:
    """Polls the queue's consumers when the broker announces a job, and now and then for those that come back.

    An open pull on each consumer would be simpler, but two of them may answer at once, and a worker must never hold
    a job that it does not run.
    """

    def __init__(self, bus: Bus, idle_poll_s: float) -> None:
        self._bus = bus
        self._idle_poll_s = idle_poll_s
        self._announced = asyncio.Event()
        self._tasks = list(Task)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Listen for announcements."""
        await self._stack.enter_async_context(self._bus.subscribe(subjects.LIVE_QUEUE, self._announce))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        await self._stack.aclose()

    def _announce(self, _: Stored) -> None:
        self._announced.set()

    async def receive(self, stop: asyncio.Event) -> Delivery | None:
        """Wait for a job and return it, or None when it is time to stop. Raises BrokerUnavailable."""
        while not stop.is_set():
            self._announced.clear()  # before the look, so that no announcement is missed
            delivery = await self._take()
            if delivery is not None:
                return delivery
            await self._pause(stop)
        return None

    async def _take(self) -> Delivery | None:
        for job_class in JobClass:
            for task in self._tasks:
                delivery = await deliveries.take(self._bus, JOB_Q, worker_consumer(job_class, task))
                if delivery is not None:
                    self._tasks.remove(task)
                    self._tasks.insert(0, task)  # its adapter is loaded now
                    return delivery
        return None

    async def _pause(self, stop: asyncio.Event) -> None:
        waiting = [asyncio.create_task(event.wait(), name="intake.wait") for event in (self._announced, stop)]
        try:
            await asyncio.wait(waiting, timeout=self._idle_poll_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
