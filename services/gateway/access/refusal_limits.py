"""Who is refused and asks on: how many refusals one address may have, in so much memory and no more.

Not against guessing, which is hopeless with 256 random bits, but for the log: each refusal is a line in it.
"""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 10_000  # addresses that are remembered; about 2 MB
_HOME_BITS = 64  # of an IPv6 address: whoever has one has all that begin so


class RefusalLimits:
    """A token bucket for each address that was refused lately. Whoever has a key is not counted here."""

    def __init__(self, *, rate_per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`burst` is how many refusals may come together after a pause."""
        self._rate = rate_per_s
        self._burst = float(burst)
        self._clock = clock
        self._buckets: LRUCache[str, tuple[float, float]] = LRUCache(MOST)  # what is left in it, at which time

    def count_refusal(self, address: str) -> float:
        """Count a refusal and return 0; or return after how many seconds to come again, which costs nothing."""
        home, now = _home(address), self._clock()
        left, at = self._buckets.get(home, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        wait_s = 0.0 if left >= 1 else (1 - left) / self._rate
        self._buckets[home] = (left if wait_s else left - 1, now)
        return wait_s


def _home(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a proxy may tell what it likes
        return address[:_HOME_BITS]
    if isinstance(found, ipaddress.IPv4Address) or found.ipv4_mapped:
        return address
    return str(ipaddress.ip_network((found, _HOME_BITS), strict=False))
