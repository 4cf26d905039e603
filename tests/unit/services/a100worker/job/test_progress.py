"""The `step` that an engine calls: it keeps the count, and it is where a cancel reaches the engine."""

from __future__ import annotations

import asyncio

import pytest

from services.a100worker.job.progress import Reporter
from shared.bus import Bus
from shared.errors import JobCancelled


@pytest.fixture
async def reporter() -> Reporter:
    """One that nobody publishes for."""
    return Reporter(Bus(), "j1")


async def test_a_step_says_how_far_the_job_is(reporter: Reporter) -> None:
    """One-based, with the fraction that is done."""
    await asyncio.to_thread(reporter, 3, 4, "Nearly.")

    assert reporter.last is not None
    assert (reporter.last.step, reporter.last.total_steps, reporter.last.fraction) == (3, 4, 0.75)
    assert reporter.last.message == "Nearly."


async def test_a_step_counts_once(reporter: Reporter) -> None:
    """An engine that repeats itself is told nothing, and neither is the user."""
    await asyncio.to_thread(reporter, 1, 4, "first")
    await asyncio.to_thread(reporter, 1, 4, "again")

    assert reporter.last is not None
    assert reporter.last.message == "first"


async def test_preparing_is_no_step(reporter: Reporter) -> None:
    """Step 0 is a phrase, and may come again with another one."""
    await asyncio.to_thread(reporter, 0, 4, "Looking.")
    await asyncio.to_thread(reporter, 0, 4, "Thinking.")

    assert reporter.last is not None
    assert (reporter.last.step, reporter.last.total_steps, reporter.last.fraction) == (None, None, 0.0)
    assert reporter.last.message == "Thinking."


async def test_a_cancel_ends_the_engine_at_its_next_step(reporter: Reporter) -> None:
    """However far it has come."""
    await asyncio.to_thread(reporter, 1, 4)
    reporter.cancelled.set()

    with pytest.raises(JobCancelled):
        await asyncio.to_thread(reporter, 2, 4)
