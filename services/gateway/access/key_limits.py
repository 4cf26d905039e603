"""The rate limit and the concurrency limit of each API key."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.access.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

_BUSY_S = 1.0  # a guess: the end of a running request cannot be foreseen


@dataclass(slots=True)
class _Account:
    bucket: TokenBucket
    running: int = 0


class KeyLimits:
    """The limits of this gateway alone. Replicas share no counts, so three replicas allow three times as much."""

    def __init__(
        self, *, rate_per_s: float, burst: int, at_once: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`burst` requests may come together after a pause; `at_once` requests may run, open streams included."""
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._at_once = at_once
        self._clock = clock
        self._accounts: dict[str, _Account] = {}  # one for each valid key, so there are few

    def acquire(self, key_id: str) -> float:
        """Admit a request and return 0.0, to be followed by `release`; or return the seconds until the next try."""
        now = self._clock()
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = _Account(TokenBucket(self._rate_per_s, self._burst, now))
        wait_s = account.bucket.wait_s(now)
        if not wait_s and account.running >= self._at_once:
            wait_s = _BUSY_S
        if not wait_s:
            account.bucket.take(now)
            account.running += 1
        return wait_s

    def release(self, key_id: str) -> None:
        """Count an admitted request as ended."""
        self._accounts[key_id].running -= 1
