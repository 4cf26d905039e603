"""The time that a caller waits for its reply.

Requests carry the remaining time, so two hosts' clocks need not agree.
"""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import BadMessage, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TIME_LEFT = "Time-Left-Ms"
_OLD_DEADLINE = "Deadline-Ms"  # of 0.1.0: unix time by the caller's clock. Remove it in 0.3.0.
_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of this host, in seconds. The wall clock serves only the header of 0.1.0."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time at which a caller stops waiting, by the monotonic clock of the host that answers."""

    subject: str
    at: float
    clock: Callable[[], float]

    def check(self) -> None:
        """Raise Unavailable, and log it, if the caller has stopped waiting."""
        late_s = self.clock() - self.at
        if late_s > 0:
            log.warning("rpc.stale", extra={"subject": self.subject, "late_ms": round(late_s * 1000)})
            raise Unavailable("The caller stopped waiting before its request was handled.")


def headers_for(timeout_s: float) -> dict[str, str]:
    """Return the headers of a request with this time limit of its caller."""
    return {_TIME_LEFT: str(int(timeout_s * 1000))}


def receive(subject: str, headers: Mapping[str, str] | None, clocks: Clocks) -> Deadline:
    """Return the deadline of a request that has just arrived. Raises BadMessage.

    The transport time is not counted: it is short, and no clock of this host measures it.
    """
    sent = headers or {}
    try:
        if _TIME_LEFT in sent:
            left_s = float(sent[_TIME_LEFT]) / 1000
        else:
            left_s = float(sent.get(_OLD_DEADLINE, "inf")) / 1000 - clocks.wall()
    except ValueError as error:
        name = _TIME_LEFT if _TIME_LEFT in sent else _OLD_DEADLINE
        raise BadMessage(f"The header {name} is not a number.") from error
    return Deadline(subject, clocks.monotonic() + left_s, clocks.monotonic)


def enter(deadline: Deadline) -> None:
    """Make this the deadline of the running task."""
    _current.set(deadline)


def check() -> None:
    """Raise Unavailable if the caller of the running request has stopped waiting. Call it after a wait for a slot."""
    deadline = _current.get()
    if deadline is not None:
        deadline.check()
