"""Selects the next delivery to send. It does no I/O.

Each endpoint has a few calls at once, one while it fails, so that a slow or dead endpoint delays no other. If all
places are taken, the owner with the fewest calls is next.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.topology import WAITING_WEBHOOKS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from shared.webhook_subjects import DeliveryAddress

AT_ONCE, PER_ENDPOINT = 256, 4
FAILING = 4
"""An endpoint fails that has failed so many times in a row: then it has one call at once."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that waits in the broker: its subject and sequence, and the calls that were made."""

    subject: str
    seq: int
    address: DeliveryAddress
    attempts: int
    due: float
    """By the clock of the schedule."""
    is_own: bool = True
    """Whether this sender has stored it."""


@dataclass(slots=True)
class _EndpointQueue:
    """The deliveries to one endpoint that are due."""

    owner: str
    ready: deque[Waiting] = field(default_factory=deque)
    running: int = 0
    failures: int = 0
    """Since the last success."""


class Schedule:
    """All deliveries that wait. Callers may repeat every call: the newest sequence of a subject counts."""

    def __init__(
        self,
        at_once: int = AT_ONCE,
        per_endpoint: int = PER_ENDPOINT,
        room: int = WAITING_WEBHOOKS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`room` is for the deliveries of all owners; `clock` gives seconds."""
        self._room = room
        self._at_once = at_once
        self._per_endpoint = per_endpoint
        self._clock = clock
        self._known: dict[str, Waiting] = {}
        self._later: list[tuple[float, int, str]] = []
        self._queues: dict[tuple[str, str], _EndpointQueue] = {}
        self._startable: dict[tuple[str, str], None] = {}  # in the order of their last call
        self._running: dict[str, Waiting] = {}
        self._calls: Counter[str] = Counter()  # that run, by owner
        self._waiting: Counter[str] = Counter()  # by owner

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, subject: str) -> bool:
        return subject in self._known or subject in self._running

    def put(self, waiting: Waiting) -> None:
        """Add a delivery, or replace an older state of it."""
        running = self._running.get(waiting.subject)
        known = self._known.get(waiting.subject)
        if max(found.seq for found in (running, known, _NOTHING) if found is not None) >= waiting.seq:
            return
        if known is None:
            self._waiting[waiting.address.owner] += 1
        self._known[waiting.subject] = waiting
        if running is None:
            heapq.heappush(self._later, (waiting.due, waiting.seq, waiting.subject))
        if (key := _queue_of(waiting)) in self._queues:
            self._update(key)

    def has_room(self, owner: str) -> bool:
        """Return whether one more delivery of this owner fits: its share is at most the free space."""
        return self._waiting[owner] < self._room - len(self._known)

    def keep(self, owner: str, endpoints: Collection[str]) -> None:
        """Forget the deliveries to other endpoints of this owner: the broker has deleted them, too."""
        for waiting in list(self._known.values()):
            if waiting.address.owner == owner and waiting.address.endpoint not in endpoints:
                self._forget(waiting)
                if (key := _queue_of(waiting)) in self._queues:
                    self._update(key)

    def take(self) -> Waiting | None:
        """Return the next delivery to send, None if there is none or all places are taken. Then call `finish`."""
        self._wake()
        if len(self._running) >= self._at_once or not self._startable:
            return None
        key = min(self._startable, key=lambda queue: self._calls[queue[0]])
        del self._startable[key]
        queue = self._queues[key]
        waiting = queue.ready.popleft()
        queue.running += 1
        self._calls[queue.owner] += 1
        self._forget(waiting)
        self._running[waiting.subject] = waiting
        self._update(key)
        return waiting

    def finish(self, waiting: Waiting, *, has_failed: bool) -> None:
        """End the call of a delivery."""
        key = _queue_of(waiting)
        queue = self._queues[key]
        queue.running -= 1
        queue.failures = queue.failures + 1 if has_failed else 0
        del self._running[waiting.subject]
        self._calls[queue.owner] -= 1
        if not self._calls[queue.owner]:
            del self._calls[queue.owner]
        if (again := self._known.get(waiting.subject)) is not None:
            heapq.heappush(self._later, (again.due, again.seq, again.subject))
        self._update(key)

    def clear(self) -> None:
        """Forget all waiting deliveries before they are read again; running calls stay."""
        self._known.clear()
        self._later.clear()
        self._waiting.clear()
        for key, queue in list(self._queues.items()):
            queue.ready.clear()
            self._update(key)

    def wait_s(self) -> float | None:
        """Return the seconds until the next delivery is due, None if none waits for its time."""
        return max(0.0, self._later[0][0] - self._clock()) if self._later else None

    def _wake(self) -> None:
        """Move due deliveries to their queues."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            _, seq, subject = heapq.heappop(self._later)
            waiting = self._known.get(subject)
            if waiting is not None and waiting.seq == seq and subject not in self._running:
                key = _queue_of(waiting)
                queue = self._queues.setdefault(key, _EndpointQueue(waiting.address.owner))
                queue.ready.append(waiting)
                self._update(key)

    def _forget(self, waiting: Waiting) -> None:
        del self._known[waiting.subject]
        self._waiting[waiting.address.owner] -= 1
        if not self._waiting[waiting.address.owner]:
            del self._waiting[waiting.address.owner]

    def _update(self, key: tuple[str, str]) -> None:
        queue = self._queues[key]
        while queue.ready and self._known.get(queue.ready[0].subject) is not queue.ready[0]:
            queue.ready.popleft()  # replaced meanwhile
        if queue.ready and queue.running < (1 if queue.failures >= FAILING else self._per_endpoint):
            self._startable.setdefault(key)
        else:
            self._startable.pop(key, None)
        if not queue.ready and not queue.running and not queue.failures:
            del self._queues[key]


def _queue_of(waiting: Waiting) -> tuple[str, str]:
    return waiting.address.owner, waiting.address.endpoint


_NOTHING = Waiting("", -1, None, 0, 0.0)  # type: ignore[arg-type]  # older than every delivery
