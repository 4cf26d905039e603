"""The refusal limit of an address, by a clock that the test sets."""

from __future__ import annotations

import pytest

from services.gateway.access.refusal_limits import MOST, RefusalLimits


class Door:
    """Two refusals a second, three at once after a pause."""

    def __init__(self) -> None:
        self.now = 0.0
        self.refusal_limits = RefusalLimits(rate_per_s=2, burst=3, clock=lambda: self.now)

    def knock(self, address: str, times: int) -> list[float]:
        """Return the wait after each of several refusals."""
        return [self.refusal_limits.count_refusal(address) for _ in range(times)]


def test_a_burst_is_refused_and_then_the_rate_holds() -> None:
    """The wait is exact, and an early try does not prolong it."""
    door = Door()
    burst = door.knock("192.0.2.1", 6)
    door.now += 0.5

    assert burst == [0, 0, 0, pytest.approx(0.5), pytest.approx(0.5), pytest.approx(0.5)]
    assert door.knock("192.0.2.1", 2) == [0, pytest.approx(0.5)]


@pytest.mark.parametrize(
    ("first", "second", "are_one"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("", "", True),
        ("what a proxy tells", "what another tells", False),
    ],
)
def test_whose_address_it_is(first: str, second: str, are_one: bool) -> None:  # noqa: FBT001
    """An IPv6 /64 counts as one client."""
    door = Door()
    door.knock(first, 3)

    assert (door.knock(second, 1)[0] > 0) is are_one


def test_the_memory_is_bounded() -> None:
    """A flood of addresses removes the oldest entry, not a recent one."""
    door = Door()
    door.knock("first", 4)
    door.knock("second", 3)
    for number in range(MOST - 2):
        door.knock(f"n{number}", 1)
    door.knock("second", 1)
    door.knock("one more", 1)

    assert door.knock("second", 1)[0] > 0
    assert door.knock("first", 1) == [0]
