"""Takes the next job from the queues. `PollOrder` decides which queue comes first."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from services.a100worker.job.queues import PollOrder, Queue
from shared import subjects
from shared.deliveries import Puller
from shared.errors import BadMessage
from shared.lifecycle import race
from shared.messages import JobClass, Task
from shared.topology import JOB_Q, worker_consumer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from shared.bus import Bus, StoredMessage
    from shared.deliveries import Delivery

_POLLS_PER_LOOK = 10
_CONSUMER_LAG_S = 0.01  # on a busy broker, a consumer gets a new job up to this long after its announcement


class Poller:
    """Polls the queues for which the broker has announced a job, and those that hold one, which may be redelivered.

    JOB_Q holds a job until it is settled. So the poller lists its subjects from time to time, and finds all queues in
    which a job can become due without an announcement. An idle system is not polled at all. An open pull on each
    consumer would be simpler. But two of them may deliver at once, and a worker must never hold a job that it does not
    run.
    """

    def __init__(self, bus: Bus, *, idle_poll_s: float, affinity_s: float) -> None:
        self._bus = bus
        self._idle_poll_s = idle_poll_s
        self.order = PollOrder(affinity_s)
        self._notified = asyncio.Event()
        self._just_announced: set[Queue] = set()
        self._look_s = idle_poll_s * _POLLS_PER_LOOK
        self._occupied: set[Queue] = set()
        self._polled_at = self._looked_at = -math.inf
        self._connect = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Subscribe to announcements."""
        self._puller = await self._stack.enter_async_context(Puller(self._bus))
        await self._stack.enter_async_context(self._bus.subscribe(subjects.LIVE_QUEUE, self._on_announcement))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unsubscribe."""
        await self._stack.aclose()

    def _on_announcement(self, stored: StoredMessage) -> None:
        address = subjects.parse_queue_entry(stored.subject)
        try:
            queue = JobClass(address.job_class), Task(address.task)
        except ValueError as error:
            raise BadMessage("There is no queue of this class and task.") from error
        self.order.mark(queue)
        self._occupied.add(queue)
        self._just_announced.add(queue)
        self._notified.set()

    async def receive(self, *ends: asyncio.Event) -> Delivery | None:
        """Wait for a job and return it. Return None when one of the events is set. Raises BrokerUnavailable."""
        while not any(end.is_set() for end in ends):
            self._notified.clear()  # before the poll, so that no announcement is missed
            delivery = await self._poll()
            if delivery is not None:
                return delivery
            wait_s = self._idle_poll_s if self._occupied else self._look_s
            missed = self._bus.next_connect(self._connect)  # after a reconnect, announcements may be missing
            await race(self._notified.wait(), missed, *(end.wait() for end in ends), timeout_s=wait_s)
        return None

    async def _poll(self) -> Delivery | None:
        await self._mark_occupied()
        for queue in self.order.list_queues():
            self.order.clear(queue)
            wait_s = _CONSUMER_LAG_S if queue in self._just_announced else 0.0
            self._just_announced.discard(queue)
            delivery = await self._puller.pull(JOB_Q, worker_consumer(*queue), wait_s=wait_s)
            if delivery is not None:
                self.order.mark_taken(queue)
                return delivery
        return None

    async def _mark_occupied(self) -> None:
        now, connect = time.monotonic(), self._bus.connects
        if connect != self._connect or now - self._looked_at >= self._look_s:
            self._occupied = set(_queues_of(await self._bus.subjects_in(JOB_Q, subjects.ALL_QUEUED)))
            self._looked_at, self._connect, self._polled_at = now, connect, -math.inf
        if now - self._polled_at >= self._idle_poll_s:
            self._polled_at = now
            self.order.mark(*self._occupied)


def _queues_of(entries: list[str]) -> Iterator[Queue]:
    """Yield the queues of these subjects, without unknown ones (of a newer release or a typing error)."""
    for entry in entries:
        with contextlib.suppress(ValueError, BadMessage):
            address = subjects.parse_queue_entry(entry)
            yield JobClass(address.job_class), Task(address.task)
