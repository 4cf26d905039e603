"""The rate limit and the concurrency limit of a key, by a clock that the test sets."""

from __future__ import annotations

import pytest

from services.gateway.access.key_limits import KeyLimits


class Desk:
    """Limits of two requests a second and five after a pause."""

    def __init__(self, *, at_once: int = 100) -> None:
        self.now = 0.0
        self.limits = KeyLimits(rate_per_s=2, burst=5, at_once=at_once, clock=lambda: self.now)

    def ask(self, key: str = "k1") -> float:
        """Make a request that ends at once; return the wait."""
        wait = self.limits.acquire(key)
        if not wait:
            self.limits.release(key)
        return wait


def test_a_burst_is_let_through_and_then_the_rate_holds() -> None:
    """A refusal has the exact seconds until the next try."""
    desk = Desk()
    burst = [desk.ask() for _ in range(6)]
    desk.now += 0.5
    after = [desk.ask() for _ in range(2)]

    assert burst == [0, 0, 0, 0, 0, pytest.approx(0.5)]
    assert after == [0, pytest.approx(0.5)]


def test_a_refused_request_costs_nothing() -> None:
    """Requests during a refusal do not prolong it."""
    desk = Desk()
    for _ in range(50):
        desk.ask()
    desk.now += 1

    assert [desk.ask() for _ in range(3)] == [0, 0, pytest.approx(0.5)]


def test_a_pause_fills_the_bucket_no_further_than_its_rim() -> None:
    """A long pause allows no more than the burst."""
    desk = Desk()
    desk.now += 86_400

    assert sum(desk.ask() == 0 for _ in range(20)) == 5


def test_so_much_runs_at_once() -> None:
    """A stream counts for as long as it is open."""
    desk = Desk(at_once=3)
    entered = [desk.limits.acquire("k1") for _ in range(4)]
    desk.limits.release("k1")

    assert entered == [0, 0, 0, 1]
    assert desk.limits.acquire("k1") == 0


def test_keys_do_not_share() -> None:
    """One that floods takes nothing from another."""
    desk = Desk(at_once=3)
    for _ in range(10):
        desk.limits.acquire("k1")

    assert desk.ask("k2") == 0
