"""What happens to jobs, as it happens: one subscription for the whole process, fanned out in memory.

A subscription misses what is sent while the connection is down, so whoever follows a job reads its stored history
first, again after each reconnect, and again after a long silence; sequence numbers take out what comes twice.
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
_SILENCE_S = 30.0  # one small read per stream in this time, against an end that nobody told us of
_RETRY_S = 0.25


class Feed:
    """Jobs' events for everybody in this process. `run` must be running; `close` ends all who follow."""

    def __init__(self, bus: Bus, observe: Callable[[JobEvent], None], silence_s: float = _SILENCE_S) -> None:
        """`observe` gets every live event of every job; after so much silence of a job its history is read again."""
        self._bus = bus
        self._observe = observe
        self._silence_s = silence_s
        self._inboxes: dict[str, set[_Inbox]] = {}
        self._closed = False

    async def run(self) -> None:
        """Listen for ever."""
        await self._bus.up.wait()
        async with self._bus.subscribe(subjects.LIVE_EVENTS, self._receive):
            connect = 0
            while True:
                connect = await self._bus.next_connect(connect)
                self._look_back()  # events that were published while nothing was subscribed

    def close(self) -> None:
        """End everybody's `follow`: the gateway is about to stop."""
        self._closed = True
        for inbox in self._all():
            inbox.wake.set()

    async def follow(self, job_id: str, after: int) -> AsyncGenerator[tuple[int, JobEvent], None]:
        """Yield the sequence and the event of all that happens to a job behind a sequence; ends after the terminal one.

        Progress may be left out for a slow reader, nothing else. A broker that is away is waited for.
        """
        inbox = _Inbox(self._silence_s)
        self._inboxes.setdefault(job_id, set()).add(inbox)
        try:
            while not self._closed:
                for seq, event in await self._news(job_id, after, inbox):
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

    async def _news(self, job_id: str, after: int, inbox: _Inbox) -> Iterable[tuple[int, JobEvent]]:
        if not inbox.behind:
            return await inbox.take()
        inbox.behind = False  # first: a reconnect while we read makes us read again
        try:
            stored = await self._bus.history(JOB_EV, subjects.events_of(job_id), after)
        except BrokerUnavailable:
            inbox.behind = True
            await asyncio.sleep(_RETRY_S)
            return ()
        return [(entry.seq, event) for entry in stored if (event := parse_event(entry.data)) is not None]

    def _receive(self, stored: StoredMessage) -> None:
        event = parse_event(stored.data)
        if event is None:
            return
        self._observe(event)
        for inbox in self._inboxes.get(subjects.job_of_event(stored.subject), ()):
            inbox.put(stored.seq, event)

    def _look_back(self) -> None:
        for inbox in self._all():
            inbox.behind = True
            inbox.wake.set()

    def _all(self) -> list[_Inbox]:
        return [inbox for inboxes in self._inboxes.values() for inbox in inboxes]


class _Inbox:
    """What one follower has not read yet. `behind`: there may be stored events that did not come in here."""

    __slots__ = ("_clock", "_doubting", "_events", "_heard_s", "_silence_s", "behind", "wake")

    def __init__(self, silence_s: float) -> None:
        self._events: deque[tuple[int, JobEvent]] = deque()
        self._silence_s = silence_s
        self._clock = asyncio.get_running_loop()
        self._heard_s = self._clock.time()
        self._doubting = self._clock.call_later(silence_s, self._doubt)
        self.behind = True
        self.wake = asyncio.Event()

    def close(self) -> None:
        """Doubt no more."""
        self._doubting.cancel()

    def put(self, seq: int, event: JobEvent) -> None:
        """Add an event, in place of the oldest progress if there are too many."""
        if len(self._events) >= INBOX_LIMIT:
            spare = (at for at, (_, old) in enumerate(self._events) if isinstance(old, Progress | Preview))
            if (oldest := next(spare, None)) is not None:
                del self._events[oldest]
        self._events.append((seq, event))
        self._heard_s = self._clock.time()
        self.wake.set()

    async def take(self) -> list[tuple[int, JobEvent]]:
        """Wait for events and take them out; none after so long a silence that there is reason to doubt."""
        await self.wake.wait()
        self.wake.clear()
        taken = list(self._events)
        self._events.clear()
        return taken

    def _doubt(self) -> None:
        # One timer that looks when it is due whether it was right: one anew for each event costs a tenth of a stream.
        now_s = self._clock.time()
        if now_s >= self._heard_s + self._silence_s:
            self._heard_s = now_s
            self.behind = True
            self.wake.set()
        self._doubting = self._clock.call_at(self._heard_s + self._silence_s, self._doubt)
