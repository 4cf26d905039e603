"""The limits of each API key: its rate, its requests at once, and its open event streams."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.access.token_bucket import TokenBucket
from shared.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

_BUSY_S = 1.0  # an estimate: the end of a running request is unknown


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


class StreamLimits:
    """Counts the open streams of this gateway alone, like KeyLimits."""

    def __init__(self, *, total: int, per_key: int) -> None:
        self._total = total
        self._per_key = per_key
        self._open: Counter[str] = Counter()  # by key id; "" is an open gateway, which has no keys

    def check(self, key_id: str) -> None:
        """Raise Busy if this key may not open a stream now."""
        if key_id and self._open[key_id] >= self._per_key:
            raise Busy(f"This API key has {self._per_key} open event streams; close one, or try again in a moment.")
        if self._open.total() >= self._total:
            raise Busy("The server has too many open event streams, please try again in a moment.")

    def acquire(self, key_id: str) -> None:
        """Count a stream, to be followed by `release`. Raises Busy."""
        self.check(key_id)
        self._open[key_id] += 1

    def release(self, key_id: str) -> None:
        """Count a stream as closed."""
        self._open[key_id] -= 1
        if not self._open[key_id]:
            del self._open[key_id]
