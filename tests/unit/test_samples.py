"""The verdict of the soak: leaks, and growth that is not a leak."""

from __future__ import annotations

from tests.chaos.verdict.samples import Sample, judge

MINUTES = 30


def over_time(start_mb: float, end_mb: float, *, tasks: int = 20) -> list[Sample]:
    """Half a minute apart; memory rises evenly, and a task more is there each minute if `tasks` is 0."""
    count = 2 * MINUTES
    return [
        Sample(
            at_s=30.0 * number,
            rss_mb=start_mb + (end_mb - start_mb) * number / count,
            files=10,
            threads=4,
            tasks=tasks or number // 2,
        )
        for number in range(count + 1)
    ]


def test_what_stays_at_its_level_is_flat() -> None:
    """An allocator alone causes a growth of a few megabytes in half an hour."""
    assert judge("gateway", over_time(85, 90)).problems == []
    assert judge("gateway", over_time(85, 90)).row().endswith("flat")


def test_what_grows_is_told_with_its_levels() -> None:
    """From the quarter on, when caches are full."""
    (problem,) = judge("gateway", over_time(80, 140)).problems

    assert problem == "memory 99 to 135 MB"


def test_the_warm_up_is_not_judged() -> None:
    """All of the growth in the first minutes."""
    samples = [*over_time(20, 100)[:10], *(each for each in over_time(100, 100) if each.at_s >= 300)]

    assert judge("nats", samples).problems == []


def test_a_runtime_with_a_limit_may_grow_up_to_it() -> None:
    """And not beyond."""
    assert judge("nats", over_time(100, 200), limit_mb=268).problems == []
    assert judge("nats", over_time(100, 400), limit_mb=268).problems != []


def test_tasks_that_are_left_behind_are_told() -> None:
    """Also where they are small."""
    (problem,) = judge("gateway", over_time(85, 85, tasks=0)).problems

    assert problem.startswith("tasks ")
