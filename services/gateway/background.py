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
    """Wait for the streams after the first connect and after each reconnect, which may reach another broker."""
    await deps.bus.wait_until_open()
    connect = 0
    while True:
        connect = await deps.bus.next_connect(connect)
        deps.declared.clear()
        await declaring.wait_until_declared(deps.bus)
        if deps.bus.connects == connect:
            deps.declared.set()


async def _count(deps: Deps) -> None:
    """Read the queue from the job manager after the first connect and after each reconnect."""

    async def ask() -> QueueReport:
        return await rpc.call(deps.bus, subjects.JOB_QUEUE, QueueQuery(), QueueReport, timeout_s=_ANSWER_S)

    connect = counted = 0
    while True:
        if connect == counted:
            connect = await deps.bus.next_connect(counted)
        try:
            await deps.admission.recount(ask)
        except ArtMancerError:
            await asyncio.sleep(_RETRY_S)
        else:
            counted = connect
