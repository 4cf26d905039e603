"""The division of a nearly full log: an owner with less than an equal share loses nothing."""

from __future__ import annotations

import pytest

from services.jobmanager.history.retention import excess_by_owner


@pytest.mark.parametrize(
    ("volumes", "goal", "excess"),
    [
        ({}, 10, {}),
        ({"ann": 5}, 10, {}),
        ({"ann": 30}, 10, {"ann": 20}),
        ({"ann": 90, "bob": 5}, 65, {"ann": 30}),
        ({"ann": 40, "bob": 40, "eve": 2}, 62, {"ann": 10, "bob": 10}),
        ({"ann": 10, "bob": 10}, 20, {}),
        ({"ann": 10, "bob": 20, "eve": 60}, 60, {"eve": 30}),
    ],
)
def test_the_largest_owners_pay_down_to_an_equal_share(
    volumes: dict[str, int], goal: float, excess: dict[str, float]
) -> None:
    """The rest fits into the goal."""
    assert excess_by_owner(volumes, goal) == excess
    assert sum(volumes.values()) - sum(excess.values()) <= goal or not volumes
