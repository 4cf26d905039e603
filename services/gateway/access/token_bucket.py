"""The token bucket behind the rate limit of a key, the refusal limit of an address and the budget of an owner."""

from __future__ import annotations


class TokenBucket:
    """Up to `burst` tokens, full at first; `rate_per_s` new ones come each second.

    The caller passes the time in seconds, so that a table of buckets needs one clock.
    """

    __slots__ = ("_burst", "_rate_per_s", "_tokens", "_updated_at")

    def __init__(self, rate_per_s: float, burst: int, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._tokens = self._burst
        self._updated_at = now

    def wait_s(self, now: float, amount: float = 1) -> float:
        """Return the seconds until this many tokens are there, 0.0 if they are."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * self._rate_per_s)
        self._updated_at = now
        return 0.0 if self._tokens >= amount else (amount - self._tokens) / self._rate_per_s

    def take(self, now: float, amount: float = 1) -> float:
        """Take the tokens and return 0.0; if there are too few, return the seconds until there are enough."""
        wait_s = self.wait_s(now, amount)
        if not wait_s:
            self._tokens -= amount
        return wait_s
