"""The budget in bytes for all work at once."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from shared.errors import TooLarge
from shared.memory_budget import MemoryBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1024**2


async def settle() -> None:
    """Let every task that can run do so."""
    loop = asyncio.get_running_loop()
    for _ in range(10):
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


@contextlib.asynccontextmanager
async def queue(budget: MemoryBudget, *sizes: int) -> AsyncIterator[tuple[list[asyncio.Task[None]], list[int]]]:
    """Yield a task for each size, in this order, and the sizes that got their bytes; each task keeps them."""
    granted: list[int] = []

    async def keep(size: int) -> None:
        async with budget.reserve(size):
            granted.append(size)
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(keep(size), name=f"keep.{size}") for size in sizes]
    await settle()
    try:
        yield tasks, granted
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_work_within_the_budget_runs_at_once() -> None:
    """Together it may take all bytes."""
    budget = MemoryBudget(100)

    async with queue(budget, 60, 40) as (_, granted):
        assert granted == [60, 40]
        assert budget.reserved_bytes == 100
    assert budget.reserved_bytes == 0


async def test_more_waits_until_there_is_room() -> None:
    """The first that ends makes room."""
    budget = MemoryBudget(100)
    async with queue(budget, 60, 50) as (tasks, granted):
        waited = list(granted), budget.waiting
        tasks[0].cancel()
        await settle()

        assert waited == ([60], 1)
        assert granted == [60, 50]


async def test_small_requests_do_not_starve_a_large_one() -> None:
    """A small one that would fit waits behind the large one that came first."""
    budget = MemoryBudget(100)
    async with queue(budget, 60, 90, 10) as (tasks, granted):
        before = list(granted)
        tasks[0].cancel()
        await settle()

        assert before == [60]
        assert granted == [60, 90, 10]


async def test_a_cancelled_wait_leaves_the_queue() -> None:
    """Those behind it are served at once."""
    budget = MemoryBudget(100)
    async with queue(budget, 60, 90, 40) as (tasks, granted):
        tasks[1].cancel()
        await settle()

        assert granted == [60, 40]
        assert (budget.waiting, budget.reserved_bytes) == (0, 100)


async def test_a_cancel_in_the_same_turn_as_the_grant_gives_the_bytes_back() -> None:
    """Otherwise they would be lost for the life of the process."""
    budget = MemoryBudget(100)
    async with AsyncExitStack() as holder:
        await holder.enter_async_context(budget.reserve(100))
        async with queue(budget, 70, 30) as (tasks, granted):
            await holder.aclose()  # grants both; neither task has run since
            tasks[0].cancel()
            await settle()

            assert granted == [30]
            assert budget.reserved_bytes == 30


async def test_a_cancel_just_before_the_grant_costs_nothing() -> None:
    """The cancelled task has not run yet when the bytes are given out."""
    budget = MemoryBudget(100)
    async with AsyncExitStack() as holder:
        await holder.enter_async_context(budget.reserve(100))
        async with queue(budget, 70, 90) as (tasks, granted):
            tasks[0].cancel()
            await holder.aclose()
            await settle()

            assert granted == [90]
            assert budget.reserved_bytes == 90


async def test_more_than_the_whole_budget_is_refused_at_once() -> None:
    """It could never run; the sentence names both sizes."""
    budget = MemoryBudget(64 * MIB)

    with pytest.raises(TooLarge) as refused:
        async with budget.reserve(64 * MIB + 1):
            pass

    assert refused.value.message == ("This needs 65 MiB of memory, and 64 MiB are allowed; send smaller images.")
    assert budget.reserved_bytes == 0


async def test_a_failure_gives_the_bytes_back() -> None:
    """An error of the work does not leak its reservation."""
    budget = MemoryBudget(100)

    with pytest.raises(ZeroDivisionError):
        async with budget.reserve(100):
            raise ZeroDivisionError

    assert budget.reserved_bytes == 0
