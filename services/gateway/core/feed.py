"""Distributes the live events of jobs from one broker subscription to all followers in this process.

The subscription misses events that are published while the connection is down. Each follower therefore reads the job's
stored history at the start, after each reconnect, and after a long time without events. Sequence numbers remove
duplicates.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

from shared import subjects
from shared.errors import BrokerUnavailable
from shared.jobs import parse_event
from shared.messages import Cancelled, Done, Failed, Preview, Progress
from shared.topology import JOB_EV

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from shared.bus import Bus, StoredMessage
    from shared.messages import JobEvent

    Numbered = tuple[int, JobEvent]

INBOX_LIMIT = 256
_RECHECK_S = 30.0  # finds a terminal event that the subscription missed, at the cost of a small read per follower
_RETRY_S = 0.25
_READS_AT_ONCE = 64  # after a reconnect every follower reads: thousands at once would time out


class Feed:
    """Distributes the events of jobs to followers. `run` must be running; `close` ends all followers."""

    def __init__(self, bus: Bus, observe: Callable[[JobEvent], None], recheck_s: float = _RECHECK_S) -> None:
        """Call `observe` with each live event; read a job's history after `recheck_s` seconds without its events."""
        self._bus = bus
        self._observe = observe
        self._followers: dict[str, set[Follower]] = {}
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self.recheck_s = recheck_s
        self.is_closed = False

    async def run(self) -> None:
        """Receive live events. Runs forever."""
        await self._bus.up.wait()
        async with self._bus.subscribe(subjects.LIVE_EVENTS, self._receive):
            connect = 0
            while True:
                connect = await self._bus.next_connect(connect)
                for follower in self._all():  # for events that were published while nothing was subscribed
                    follower.read_history()

    def close(self) -> None:
        """End all followers, because the gateway stops."""
        self.is_closed = True
        for follower in self._all():
            follower.stop()

    def open(self, job_id: str, after: int, tick_s: float) -> Follower:
        """Return a follower of the job's events after a sequence number; close it."""
        follower = Follower(self, job_id, after, min(tick_s, self.recheck_s))
        self._followers.setdefault(job_id, set()).add(follower)
        if self.is_closed:
            follower.stop()
        return follower

    async def follow(self, job_id: str, after: int) -> AsyncGenerator[Numbered, None]:
        """Yield (sequence, event) for the job's events after a sequence, up to and including the terminal event.

        A slow reader may miss progress and preview events, but no others. Waits while the broker is unavailable.
        """
        with closing(self.open(job_id, after, self.recheck_s)) as follower:
            while True:
                for numbered in await follower.next():
                    yield numbered
                if follower.ended:
                    return

    def drop(self, job_id: str, follower: Follower) -> None:
        """Remove a follower. Called by its `close`."""
        followers = self._followers.get(job_id, set())
        followers.discard(follower)
        if not followers:
            self._followers.pop(job_id, None)

    async def read(self, job_id: str, after: int) -> list[Numbered]:
        """Return the stored events. Raises BrokerUnavailable."""
        async with self._reads:
            stored = await self._bus.history(JOB_EV, subjects.events_of(job_id), after)
        return [(entry.seq, event) for entry in stored if (event := parse_event(entry)) is not None]

    def _receive(self, stored: StoredMessage) -> None:
        event = parse_event(stored)
        if event is None:
            return
        self._observe(event)
        for follower in self._followers.get(subjects.job_of_event(stored.subject), ()):
            follower.put((stored.seq, event))

    def _all(self) -> list[Follower]:
        return [follower for followers in self._followers.values() for follower in followers]


class Follower:
    """The unread events of one reader. There are thousands, so each has one timer and no task."""

    __slots__ = (
        "_after", "_events", "_feed", "_is_behind", "_is_woken", "_job_id", "_last_s", "_loop", "_tick_s", "_timer",
        "_waiter", "ended", "ticked",
    )  # fmt: skip

    def __init__(self, feed: Feed, job_id: str, after: int, tick_s: float) -> None:
        """`next` returns at least every `tick_s` seconds, and `ticked` is then set; the reader clears it."""
        self._feed = feed
        self._job_id = job_id
        self._after = after
        self._tick_s = tick_s
        self._events: list[Numbered] = []
        self._loop = asyncio.get_running_loop()
        self._last_s = self._loop.time()
        self._timer = self._loop.call_later(tick_s, self._tick)
        self._is_behind = True  # the history may have events that `_events` lacks
        self._is_woken = False
        self._waiter: asyncio.Future[None] | None = None
        self.ticked = False
        self.ended = False

    def close(self) -> None:
        """Stop following."""
        self._timer.cancel()
        self._feed.drop(self._job_id, self)

    def stop(self) -> None:
        """Make `next` return, and set `ended`."""
        self.ended = True
        self._wake()

    def read_history(self) -> None:
        """Read the stored events at the next opportunity."""
        self._is_behind = True
        self._wake()

    def put(self, numbered: Numbered) -> None:
        """Add an event. A full inbox drops its oldest progress or preview event."""
        if len(self._events) >= INBOX_LIMIT:
            droppable = (at for at, (_, old) in enumerate(self._events) if isinstance(old, Progress | Preview))
            if (oldest := next(droppable, None)) is not None:
                del self._events[oldest]
        self._events.append(numbered)
        self._last_s = self._loop.time()
        self._wake()

    async def next(self) -> list[Numbered]:
        """Wait for events, a tick or the end, and return the new events, in order.

        `ended` is set after the terminal event and after `stop`.
        """
        if self._is_behind and not self.ended:
            self._is_behind = False  # before the read: a reconnect during the read must cause another one
            try:
                return self._new(await self._feed.read(self._job_id, self._after))
            except BrokerUnavailable:
                self._is_behind = True
                await asyncio.sleep(_RETRY_S)
                return []
        if not self._is_woken and not self.ended:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_woken = False
        taken, self._events = self._events, []
        return self._new(taken)

    def _new(self, events: list[Numbered]) -> list[Numbered]:
        new = []
        for seq, event in events:
            if seq > self._after:
                self._after = seq
                new.append((seq, event))
                if isinstance(event, Done | Failed | Cancelled):
                    self.ended = True
                    break
        return new

    def _wake(self) -> None:
        self._is_woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _tick(self) -> None:
        # One timer that reschedules itself: a new timer for each event costs 10 % of a stream's CPU time.
        now_s = self._loop.time()
        if now_s >= self._last_s + self._feed.recheck_s:
            self._last_s = now_s
            self._is_behind = True
        self.ticked = True
        self._wake()
        self._timer = self._loop.call_later(self._tick_s, self._tick)
