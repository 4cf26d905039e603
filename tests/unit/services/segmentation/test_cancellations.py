"""Cancelling requests, before, while and after they run."""

from __future__ import annotations

import pytest

from services.segmentation.cancellations import Cancellations
from shared.errors import JobCancelled


class Clock:
    """Time that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_running_request_stops_at_its_next_checkpoint() -> None:
    """Not before: native code cannot be interrupted."""
    cancelled = Cancellations()
    with cancelled.watch("r1") as checkpoint:
        checkpoint()

        cancelled.cancel("r1")

        with pytest.raises(JobCancelled):
            checkpoint()


def test_another_request_goes_on() -> None:
    """A cancel names one request."""
    cancelled = Cancellations()
    with cancelled.watch("r1") as checkpoint:
        cancelled.cancel("r2")

        checkpoint()


def test_a_cancel_that_overtook_its_request_counts() -> None:
    """Two subjects, two orders."""
    cancelled = Cancellations()
    cancelled.cancel("r1")

    with cancelled.watch("r1") as checkpoint, pytest.raises(JobCancelled):
        checkpoint()


def test_an_early_cancel_is_forgotten_in_time() -> None:
    """The deployed client also cancels finished requests."""
    clock = Clock()
    cancelled = Cancellations(early_s=60, clock=clock)
    cancelled.cancel("r1")
    clock.now = 61

    with cancelled.watch("r1") as checkpoint:
        checkpoint()


def test_an_early_cancel_counts_once() -> None:
    """A request that is sent again under its old id runs."""
    cancelled = Cancellations()
    cancelled.cancel("r1")
    with cancelled.watch("r1"):
        pass

    with cancelled.watch("r1") as checkpoint:
        checkpoint()


def test_early_cancels_are_bounded() -> None:
    """Only the newest cancels of a flood are kept."""
    cancelled = Cancellations()
    for number in range(5000):
        cancelled.cancel(f"r{number}")

    with cancelled.watch("r0") as oldest, cancelled.watch("r4999") as newest:
        oldest()
        with pytest.raises(JobCancelled):
            newest()


def test_a_thread_that_outlives_its_request_stops() -> None:
    """No request waits for it."""
    cancelled = Cancellations()
    with cancelled.watch("r1") as checkpoint:
        pass

    with pytest.raises(JobCancelled):
        checkpoint()
