"""What is promised about time is measured first."""

from __future__ import annotations

from services.jobmanager.durations import DurationEstimator
from shared.messages import Task

MEGAPIXEL = 1_000_000


def test_nothing_is_promised_before_the_first_measurement() -> None:
    """An unmeasured task has no expected duration, also when another task has."""
    estimator = DurationEstimator()
    estimator.record(Task.REMOVAL, MEGAPIXEL, 10, 800)

    assert estimator.duration_ms(Task.INSERTION, MEGAPIXEL, 10) is None


def test_the_nearest_size_answers() -> None:
    """A size that was never measured borrows from the one nearest to it."""
    estimator = DurationEstimator()
    estimator.record(Task.REMOVAL, MEGAPIXEL, 10, 800)
    estimator.record(Task.REMOVAL, 16 * MEGAPIXEL, 10, 9_000)

    assert estimator.duration_ms(Task.REMOVAL, MEGAPIXEL * 3 // 2, 10) == 800
    assert estimator.duration_ms(Task.REMOVAL, 12 * MEGAPIXEL, 10) == 9_000


def test_the_mean_follows_a_change_of_hardware() -> None:
    """After a few jobs at another speed, the expectation has moved to it."""
    estimator = DurationEstimator()
    estimator.record(Task.REMOVAL, MEGAPIXEL, 10, 10_000)

    for _ in range(20):
        estimator.record(Task.REMOVAL, MEGAPIXEL, 10, 1_000)

    expected = estimator.duration_ms(Task.REMOVAL, MEGAPIXEL, 10)
    assert expected is not None
    assert 1_000 <= expected < 1_200


def test_a_worker_that_starts_nothing_is_not_counted_on() -> None:
    """Only workers that were seen lately share the waiting time."""
    now = 0.0
    estimator = DurationEstimator(clock=lambda: now)
    estimator.see_worker("w1")
    estimator.see_worker("w2")
    assert estimator.worker_count() == 2

    now = 1_000.0
    estimator.see_worker("w2")

    assert estimator.worker_count() == 1
