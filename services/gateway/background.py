"""What the gateway does besides answering: looks for the streams, listens to jobs, keeps the count of those waiting."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared import declaring, rpc, subjects
from shared.errors import ArtMancerError
from shared.messages import QueueQuery, QueueReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.deps import Deps

_RETRY_S = 0.5
_ANSWER_S = 2.0


@asynccontextmanager
async def run_background_tasks(deps: Deps) -> AsyncIterator[None]:
    """Do all of it while the block runs. Raises ConfigError if the broker will not let us in."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_look(deps), name="gateway.look"),
            group.create_task(deps.feed.run(), name="gateway.feed"),
            group.create_task(_count(deps), name="gateway.count"),
        ]
        yield
        for task in tasks:
            task.cancel()


async def _look(deps: Deps) -> None:
    """Look for the streams when the broker comes, and again whenever it comes back: it may be another one."""
    due = asyncio.Event()

    async def look_again() -> None:
        deps.declared.clear()
        due.set()

    deps.bus.on_reconnect(look_again)
    await deps.bus.wait_until_open()
    due.set()
    while True:
        await due.wait()
        due.clear()
        await declaring.wait_until_declared(deps.bus)
        if not due.is_set():
            deps.declared.set()


async def _count(deps: Deps) -> None:
    """Ask the job manager what waits, once it answers, and again after each reconnect."""
    due = asyncio.Event()

    async def ask_again() -> None:
        due.set()

    async def ask() -> QueueReport:
        return await rpc.call(deps.bus, subjects.JOB_QUEUE, QueueQuery(), QueueReport, timeout_s=_ANSWER_S)

    deps.bus.on_reconnect(ask_again)
    await deps.bus.up.wait()
    due.set()
    while True:
        await due.wait()
        try:
            await deps.admission.recount(ask)
        except ArtMancerError:
            await asyncio.sleep(_RETRY_S)
        else:
            due.clear()
