"""`race`: the first of several coroutines to end cancels the others."""

from __future__ import annotations

import asyncio

import pytest

from shared.lifecycle import race
from tests.waiting import wait_until


async def never() -> None:
    await asyncio.Event().wait()


async def at_once(result: str) -> str:
    return result


async def fail() -> None:
    raise ValueError("first")


async def test_the_first_one_cancels_the_others() -> None:
    """All tasks have ended when `race` returns, in the order of its arguments."""
    first, second = await race(never(), at_once("done"))

    assert first.cancelled()
    assert second.result() == "done"


async def test_a_failure_is_raised() -> None:
    """Also if it is not the first argument."""
    with pytest.raises(ValueError, match="first"):
        await race(never(), fail())


async def test_a_timeout_cancels_all() -> None:
    """It raises nothing: the tasks show that none of them ended."""
    tasks = await race(never(), never(), timeout_s=0.01)

    assert [task.cancelled() for task in tasks] == [True, True]


async def test_a_cancelled_race_leaves_no_task_behind() -> None:
    """A stop in the middle ends the coroutines too."""
    before = asyncio.all_tasks()
    racing = asyncio.create_task(race(never(), never()), name="race")
    await wait_until(lambda: len(asyncio.all_tasks()) == len(before) + 3, "the race runs")
    racing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await racing
    assert asyncio.all_tasks() == before
