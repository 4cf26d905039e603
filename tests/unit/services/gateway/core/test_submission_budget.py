"""The budget of an owner: a number of jobs and a number of bytes, which come back with time."""

from __future__ import annotations

import pytest

from services.gateway.core.submission_budget import Rate, SubmissionBudget
from shared.errors import Busy


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def budget(clock: Clock, *, jobs: int = 3, size: int = 1000) -> SubmissionBudget:
    return SubmissionBudget(Rate(1.0, jobs), Rate(10.0, size), clock)


def test_a_spent_number_is_refused_until_it_comes_back() -> None:
    """The sentence has the seconds until the next one."""
    clock = Clock()
    mine = budget(clock)
    for _ in range(3):
        mine.spend("ann", 1)
    with pytest.raises(Busy, match=r"try again in 1 s\.$"):
        mine.spend("ann", 1)
    clock.now = 1.0

    mine.spend("ann", 1)


def test_spent_bytes_are_refused_until_they_come_back() -> None:
    """A refused submission costs nothing."""
    clock = Clock()
    mine = budget(clock)
    mine.spend("ann", 900)
    for _ in range(2):
        with pytest.raises(Busy, match=r"try again in 10 s\.$"):
            mine.spend("ann", 200)
    clock.now = 10.0

    mine.spend("ann", 200)


def test_each_owner_has_a_budget() -> None:
    """A spent budget does not stop other owners."""
    mine = budget(Clock(), jobs=1)
    mine.spend("ann", 1)
    mine.spend("bob", 1)

    with pytest.raises(Busy):
        mine.spend("ann", 1)
