"""Distributes the live events of jobs from one broker subscription to all followers in this process.

The subscription misses events that are published while the connection is down. Each follower therefore reads the job's
stored history at the start, after each reconnect, and after a long time without events. Sequence numbers remove
duplicates.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from shared import subjects
from shared.errors import BrokerUnavailable
from shared.jobs import parse_event
from shared.messages import Cancelled, Done, Failed, Preview, Progress
from shared.topology import JOB_EV

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from shared.bus import Bus, StoredMessage
    from shared.messages import JobEvent

INBOX_LIMIT = 256
_RECHECK_S = 30.0  # finds a terminal event that the subscription missed, at the cost of a small read per follower
_RETRY_S = 0.25


class Feed:
    """Streams the events of jobs to followers. `run` must be running; `close` ends all streams."""

    def __init__(self, bus: Bus, observe: Callable[[JobEvent], None], recheck_s: float = _RECHECK_S) -> None:
        """Call `observe` with each live event; read a job's history after `recheck_s` seconds without its events."""
        self._bus = bus
        self._observe = observe
        self._recheck_s = recheck_s
        self._inboxes: dict[str, set[_Inbox]] = {}
        self._closed = False

    async def run(self) -> None:
        """Receive live events. Runs forever."""
        await self._bus.up.wait()
        async with self._bus.subscribe(subjects.LIVE_EVENTS, self._receive):
            connect = 0
            while True:
                connect = await self._bus.next_connect(connect)
                self._read_histories()  # for events that were published while nothing was subscribed

    @property
    def is_closed(self) -> bool:
        """Return whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """End all streams, because the gateway stops."""
        self._closed = True
        for inbox in self._all():
            inbox.wake.set()

    async def follow(self, job_id: str, after: int) -> AsyncGenerator[tuple[int, JobEvent], None]:
        """Yield (sequence, event) for the job's events after a sequence, up to and including the terminal event.

        A slow reader may miss progress and preview events, but no others. Waits while the broker is unavailable.
        """
        inbox = _Inbox(self._recheck_s)
        self._inboxes.setdefault(job_id, set()).add(inbox)
        try:
            while not self._closed:
                for seq, event in await self._next_events(job_id, after, inbox):
                    if seq > after:
                        after = seq
                        yield seq, event
                        if isinstance(event, Done | Failed | Cancelled):
                            return
        finally:
            inbox.close()
            self._inboxes[job_id].discard(inbox)
            if not self._inboxes[job_id]:
                del self._inboxes[job_id]

    async def _next_events(self, job_id: str, after: int, inbox: _Inbox) -> Iterable[tuple[int, JobEvent]]:
        if not inbox.is_behind:
            return await inbox.take()
        inbox.is_behind = False  # before the read: a reconnect during the read must cause another one
        try:
            stored = await self._bus.history(JOB_EV, subjects.events_of(job_id), after)
        except BrokerUnavailable:
            inbox.is_behind = True
            await asyncio.sleep(_RETRY_S)
            return ()
        return [(entry.seq, event) for entry in stored if (event := parse_event(entry)) is not None]

    def _receive(self, stored: StoredMessage) -> None:
        event = parse_event(stored)
        if event is None:
            return
        self._observe(event)
        for inbox in self._inboxes.get(subjects.job_of_event(stored.subject), ()):
            inbox.put(stored.seq, event)

    def _read_histories(self) -> None:
        for inbox in self._all():
            inbox.is_behind = True
            inbox.wake.set()

    def _all(self) -> list[_Inbox]:
        return [inbox for inboxes in self._inboxes.values() for inbox in inboxes]


class _Inbox:
    """The unread events of one follower. `is_behind` is set while the history may have events that the inbox lacks."""

    __slots__ = ("_events", "_last_s", "_loop", "_recheck_s", "_timer", "is_behind", "wake")

    def __init__(self, recheck_s: float) -> None:
        self._events: deque[tuple[int, JobEvent]] = deque()
        self._recheck_s = recheck_s
        self._loop = asyncio.get_running_loop()
        self._last_s = self._loop.time()
        self._timer = self._loop.call_later(recheck_s, self._recheck)
        self.is_behind = True
        self.wake = asyncio.Event()

    def close(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    def put(self, seq: int, event: JobEvent) -> None:
        """Add an event. A full inbox drops its oldest progress or preview event."""
        if len(self._events) >= INBOX_LIMIT:
            droppable = (at for at, (_, old) in enumerate(self._events) if isinstance(old, Progress | Preview))
            if (oldest := next(droppable, None)) is not None:
                del self._events[oldest]
        self._events.append((seq, event))
        self._last_s = self._loop.time()
        self.wake.set()

    async def take(self) -> list[tuple[int, JobEvent]]:
        """Wait for events and remove them; return none if `recheck_s` passed without events."""
        await self.wake.wait()
        self.wake.clear()
        taken = list(self._events)
        self._events.clear()
        return taken

    def _recheck(self) -> None:
        # One timer that reschedules itself: a new timer for each event costs 10 % of a stream's CPU time.
        now_s = self._loop.time()
        if now_s >= self._last_s + self._recheck_s:
            self._last_s = now_s
            self.is_behind = True
            self.wake.set()
        self._timer = self._loop.call_at(self._last_s + self._recheck_s, self._recheck)
