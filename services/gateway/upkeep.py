"""What the gateway does besides answering: declares the streams, listens to jobs, keeps the count of those waiting."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared import rpc, subjects, topology
from shared.errors import ArtMancerError, BrokerUnavailable
from shared.messages import QueueQuery, QueueReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.deps import Deps
    from shared.bus import Bus
    from shared.settings import StreamSettings

_RETRY_S = 2.0


@asynccontextmanager
async def kept_up(deps: Deps) -> AsyncIterator[None]:
    """Do all of it while the block runs. Raises ConfigError if the broker cannot keep what is declared."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_declare(deps.bus, deps.settings.streams), name="gateway.declare"),
            group.create_task(deps.feed.run(), name="gateway.feed"),
            group.create_task(_count(deps), name="gateway.count"),
        ]
        yield
        for task in tasks:
            task.cancel()


async def _declare(bus: Bus, streams: StreamSettings) -> None:
    """Declare the streams when the broker comes, and again when it comes back: it may be another one."""

    async def declare() -> None:
        await topology.ensure(bus, streams)

    bus.on_reconnect(declare)
    await bus.up.wait()
    while True:
        try:
            await declare()
        except BrokerUnavailable:
            await asyncio.sleep(_RETRY_S)
        else:
            return


async def _count(deps: Deps) -> None:
    """Ask the job manager what waits, once it answers, and again after each reconnect."""
    due = asyncio.Event()

    async def ask_again() -> None:
        due.set()

    async def ask() -> QueueReport:
        return await rpc.call(deps.bus, subjects.JOB_QUEUE, QueueQuery(), QueueReport, timeout_s=_RETRY_S)

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
