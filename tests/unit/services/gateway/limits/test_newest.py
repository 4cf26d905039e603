"""Only the newest request of each owner goes on."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.limits.newest import NewestOnly
from tests.waiting import wait_until


class Work:
    """A piece of work that ends when the test sets `may_end`."""

    def __init__(self) -> None:
        self.begun, self.may_end, self.was_cancelled = asyncio.Event(), asyncio.Event(), False

    async def run(self) -> str:
        """Wait for the end."""
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return "done"


async def test_newer_work_of_an_owner_takes_the_place_of_older() -> None:
    """At once: the older piece is cancelled, and its caller learns it; the newer one goes on."""
    newest, old, new = NewestOnly(), Work(), Work()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(newest.run("ann", old.run()))
        await old.begun.wait()
        second = group.create_task(newest.run("ann", new.run()))
        await wait_until(first.done, "the older piece has ended")

        assert (first.result(), old.was_cancelled) == (None, True)
        new.may_end.set()
    assert second.result() == "done"


async def test_owners_do_not_disturb_each_other() -> None:
    """Two owners work at the same time."""
    newest, anns, bens = NewestOnly(), Work(), Work()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(newest.run(owner, work.run())) for owner, work in (("ann", anns), ("ben", bens))]
        for work in (anns, bens):
            await work.begun.wait()
            work.may_end.set()

    assert [task.result() for task in tasks] == ["done", "done"]


async def test_an_error_of_the_work_comes_out_and_leaves_nothing() -> None:
    """The next piece is not taken for a newer one."""
    newest = NewestOnly()

    async def fail() -> None:
        raise ValueError("broken")

    async def succeed() -> str:
        return "done"

    with pytest.raises(ValueError, match="broken"):
        await newest.run("ann", fail())
    assert await newest.run("ann", succeed()) == "done"
