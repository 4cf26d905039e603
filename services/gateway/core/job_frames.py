"""The frames of one job for one client: the events that the feed has, in the form of an API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.core.feed import Follower
    from shared.messages import JobEvent


class JobFrames:
    """The source of an event stream, see http/sse.py."""

    __slots__ = ("_follower", "_frame")

    def __init__(self, follower: Follower, frame: Callable[[int, JobEvent], bytes]) -> None:
        """`frame` gets each event with its sequence number and returns its frame, or b"" for none."""
        self._follower = follower
        self._frame = frame

    @property
    def has_ended(self) -> bool:
        """See Source."""
        return self._follower.ended

    async def next(self) -> tuple[list[bytes], bool]:
        """See Source."""
        follower = self._follower
        events = await follower.next()
        heartbeat, follower.ticked = follower.ticked, False
        return [frame for seq, event in events if (frame := self._frame(seq, event))], heartbeat

    def stop(self) -> None:
        """See Source."""
        self._follower.stop()

    def close(self) -> None:
        """See Source."""
        self._follower.close()
