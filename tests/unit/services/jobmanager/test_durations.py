"""Estimates of durations and of active workers."""

from __future__ import annotations

import pytest

from services.jobmanager.durations import DurationEstimator
from shared.messages import Task

MEGAPIXEL = 1_000_000


def test_a_task_has_no_estimate_before_its_first_measurement() -> None:
    """Measurements of another task do not count."""
    estimator = DurationEstimator()
    estimator.record(Task.REMOVAL, MEGAPIXEL, 10, 800)

    assert estimator.duration_ms(Task.INSERTION, MEGAPIXEL, 10) is None


def test_a_measured_size_counts() -> None:
    """Sizes up to the next power of two are one."""
    estimator = DurationEstimator()
    estimator.record(Task.REMOVAL, MEGAPIXEL, 10, 800)
    estimator.record(Task.REMOVAL, 16 * MEGAPIXEL, 10, 9_000)

    assert estimator.duration_ms(Task.REMOVAL, MEGAPIXEL * 5 // 4, 10) == 800
    assert estimator.duration_ms(Task.REMOVAL, 12 * MEGAPIXEL, 10) == 9_000


@pytest.mark.parametrize(
    ("measured", "megapixels", "expected_ms"),
    [
        pytest.param({1: 800, 16: 12_800}, 4, 3_200, id="between"),
        pytest.param({1: 800, 16: 12_800}, 64, 51_200, id="above"),
        pytest.param({4: 2_000, 16: 2_000}, 64, 2_000, id="where-size-does-not-matter"),
        pytest.param({1: 1_000, 4: 9_000}, 16, 36_000, id="never-more-than-in-proportion"),
        pytest.param({4: 9_000, 16: 1_000}, 64, 1_000, id="never-shorter"),
        pytest.param({1: 1_000}, 16, 4_000, id="one-measured-size"),
        pytest.param({16: 4_000}, 1, 1_000, id="below"),
        pytest.param({16: 0}, 1, 0, id="no-time"),
    ],
)
def test_another_size_is_estimated(measured: dict[int, float], megapixels: int, expected_ms: float) -> None:
    """A photo of 16 megapixels after one of 1 megapixel is not promised in the time of the small one."""
    estimator = DurationEstimator()
    for size, took_ms in measured.items():
        estimator.record(Task.REMOVAL, size * MEGAPIXEL, 10, took_ms)

    assert estimator.duration_ms(Task.REMOVAL, megapixels * MEGAPIXEL, 10) == pytest.approx(expected_ms)


def test_the_nearest_number_of_steps_counts() -> None:
    """More than the size does."""
    estimator = DurationEstimator()
    estimator.record(Task.REMOVAL, MEGAPIXEL, 4, 800)
    estimator.record(Task.REMOVAL, 16 * MEGAPIXEL, 50, 90_000)

    assert estimator.duration_ms(Task.REMOVAL, MEGAPIXEL, 40) == pytest.approx(90_000 / 4)


def test_the_mean_follows_a_change_of_hardware() -> None:
    """After a few jobs at another speed the estimate has moved to it."""
    estimator = DurationEstimator()
    estimator.record(Task.REMOVAL, MEGAPIXEL, 10, 10_000)

    for _ in range(20):
        estimator.record(Task.REMOVAL, MEGAPIXEL, 10, 1_000)

    expected = estimator.duration_ms(Task.REMOVAL, MEGAPIXEL, 10)
    assert expected is not None
    assert 1_000 <= expected < 1_200


class Clock:
    """A clock that stands still until it is moved."""

    now = 1_000_000.0

    def __call__(self) -> float:
        """Return the seconds since the epoch."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_worker_without_events_is_forgotten(clock: Clock) -> None:
    """Nothing else needs to happen: no other worker has to start a job."""
    estimator = DurationEstimator(clock)
    for worker in ("w1", "w2", "w3"):
        estimator.see_worker(worker)
    assert estimator.worker_count() == 3

    clock.now += 119
    estimator.see_worker("w2")
    assert estimator.worker_count() == 3

    clock.now += 80
    assert estimator.worker_count() == 1


def test_there_is_always_one_worker() -> None:
    """Otherwise no job would be queued for the first one."""
    assert DurationEstimator().worker_count() == 1


def test_a_worker_with_a_long_job_is_not_forgotten(clock: Clock) -> None:
    """It has no event while the job runs, so the bound is twice the longest mean duration."""
    estimator = DurationEstimator(clock)
    estimator.record(Task.REMOVAL, MEGAPIXEL, 40, 300_000)
    estimator.see_worker("w1")
    estimator.see_worker("w2")

    clock.now += 599
    assert estimator.worker_count() == 2

    clock.now += 2
    assert estimator.worker_count() == 1
