"""The limits of open event streams."""

from __future__ import annotations

import pytest

from services.gateway.access.key_limits import StreamLimits
from shared.errors import Busy


def test_each_key_and_all_together_have_a_limit() -> None:
    """A closed stream makes room for one."""
    limits = StreamLimits(total=3, per_key=2)
    for key in ("k1", "k1", "k2"):
        limits.acquire(key)

    with pytest.raises(Busy, match="2 open event streams"):
        limits.acquire("k1")
    with pytest.raises(Busy, match="too many open event streams"):
        limits.acquire("k3")
    limits.release("k1")
    limits.acquire("k3")


def test_an_open_gateway_has_only_the_limit_of_all() -> None:
    """Its requests have no key."""
    limits = StreamLimits(total=3, per_key=1)
    for _ in range(3):
        limits.acquire("")

    with pytest.raises(Busy):
        limits.acquire("")
