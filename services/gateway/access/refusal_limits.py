"""Rate-limits 401 answers per client address, in a bounded table.

It protects the log, where each refusal is a line. Guessing a key needs no limit: it has 256 random bits.
"""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING

from cachetools import LRUCache

from services.gateway.access.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 10_000
"""Addresses in the table; about 2 MB."""
_IPV6_PREFIX_BITS = 64  # IPv6 clients are counted per /64, which one subscriber owns
_TEXT_LENGTH = 64


class RefusalLimits:
    """A token bucket for each client address that was refused recently. Requests with a valid key do not count."""

    def __init__(self, *, rate_per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`burst` refusals may come together after a pause."""
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._clock = clock
        self._buckets: LRUCache[str, TokenBucket] = LRUCache(MOST)

    def count_refusal(self, address: str) -> float:
        """Count a refusal and return 0.0; beyond the limit count nothing and return the seconds until the next try."""
        network, now = _network(address), self._clock()
        bucket = self._buckets.get(network)
        if bucket is None:
            bucket = self._buckets[network] = TokenBucket(self._rate_per_s, self._burst, now)
        return bucket.take(now)


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a proxy can send any text
        return address[:_TEXT_LENGTH]
    if isinstance(found, ipaddress.IPv4Address) or found.ipv4_mapped:
        return address
    return str(ipaddress.ip_network((found, _IPV6_PREFIX_BITS), strict=False))
