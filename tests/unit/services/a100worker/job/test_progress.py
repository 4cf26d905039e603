"""The progress of a job: it counts steps, and raises a cancel in the engine."""

from __future__ import annotations

import asyncio

import pytest

from services.a100worker.job.progress import ProgressPublisher
from shared.bus import Bus
from shared.errors import JobCancelled


@pytest.fixture
async def progress() -> ProgressPublisher:
    """Return a publisher that does not send its events."""
    return ProgressPublisher(Bus(), "j1")


async def test_a_step_has_its_number_and_fraction(progress: ProgressPublisher) -> None:
    """One-based."""
    await asyncio.to_thread(progress, 3, 4, "Nearly.")

    assert progress.last is not None
    assert (progress.last.step, progress.last.total_steps, progress.last.fraction) == (3, 4, 0.75)
    assert progress.last.message == "Nearly."


async def test_a_step_counts_once(progress: ProgressPublisher) -> None:
    """A repeated step publishes nothing."""
    await asyncio.to_thread(progress, 1, 4, "first")
    await asyncio.to_thread(progress, 1, 4, "again")

    assert progress.last is not None
    assert progress.last.message == "first"


async def test_preparing_is_no_step(progress: ProgressPublisher) -> None:
    """Step 0 may repeat with another message."""
    await asyncio.to_thread(progress, 0, 4, "Looking.")
    await asyncio.to_thread(progress, 0, 4, "Thinking.")

    assert progress.last is not None
    assert (progress.last.step, progress.last.total_steps, progress.last.fraction) == (None, None, 0.0)
    assert progress.last.message == "Thinking."


async def test_a_cancel_ends_the_engine_at_its_next_step(progress: ProgressPublisher) -> None:
    """With JobCancelled."""
    await asyncio.to_thread(progress, 1, 4)
    progress.cancel_flag.set()

    with pytest.raises(JobCancelled):
        await asyncio.to_thread(progress, 2, 4)
