"""How fast a key may ask, and how much at once: a token bucket and a count, for each key."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_BUSY_S = 1.0  # when to try again where too much runs at once; nobody knows when some of it ends


@dataclass(slots=True)
class _Account:
    tokens: float
    at: float
    running: int = 0


class KeyLimits:
    """Of this gateway alone: replicas do not ask one another, so behind three of them a key may do three times more."""

    def __init__(
        self, *, rate_per_s: float, burst: int, at_once: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`burst` is how many requests may come together after a pause, `at_once` how many may run, streams too."""
        self._rate = rate_per_s
        self._burst = float(burst)
        self._at_once = at_once
        self._clock = clock
        self._accounts: dict[str, _Account] = {}  # of keys that are known, so there are few

    def enter(self, key_id: str) -> float:
        """Let a request in, to be followed by `leave`, and return 0; or return after how many seconds to try again."""
        now = self._clock()
        account = self._accounts.setdefault(key_id, _Account(self._burst, now))
        account.tokens = min(self._burst, account.tokens + (now - account.at) * self._rate)
        account.at = now
        if account.tokens < 1:
            return (1 - account.tokens) / self._rate
        if account.running >= self._at_once:
            return _BUSY_S
        account.tokens -= 1
        account.running += 1
        return 0.0

    def leave(self, key_id: str) -> None:
        """A request has been answered, or its stream has ended."""
        self._accounts[key_id].running -= 1
