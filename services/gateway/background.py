"""The background tasks of the gateway: wait for the streams, follow the job events, count the queue."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared import declaring, rpc, subjects
from shared.errors import ArtMancerError
from shared.messages import QueueQuery, QueueReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.core.admission import Admission
    from services.gateway.deps import Deps
    from shared.bus import Bus

_RETRY_S = 0.5
_ANSWER_S = 2.0


@asynccontextmanager
async def run_background_tasks(deps: Deps) -> AsyncIterator[None]:
    """Run the tasks during the block. `deps.declared` is set while all streams exist.

    Raises ConfigError if the broker refuses the connection.
    """
    parts = {
        "streams": _watch_streams(deps.bus, deps.declared),
        "feed": deps.feed.run(),
        "stores": deps.stores.run(),
        "fullness": deps.fullness.run(),
        "workers": deps.workers.run(),
        "webhooks": deps.webhook_key_watch.run(),
        "count": _count_queue(deps.bus, deps.admission),
    }
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part, name=f"gateway.{name}") for name, part in parts.items()]
        yield
        for task in tasks:
            task.cancel()


async def _watch_streams(bus: Bus, declared: asyncio.Event) -> None:
    """Wait for the streams after the first connect and after each reconnect, which may reach another broker."""
    await bus.wait_until_open()
    connect = 0
    while True:
        connect = await bus.next_connect(connect)
        declared.clear()
        await declaring.wait_until_declared(bus)
        if bus.connects == connect:
            declared.set()


async def _count_queue(bus: Bus, admission: Admission) -> None:
    """Read the queue from the job manager after the first connect and after each reconnect."""

    async def ask() -> QueueReport:
        return await rpc.call(bus, subjects.JOB_QUEUE, QueueQuery(), QueueReport, timeout_s=_ANSWER_S)

    connect = counted = 0
    while True:
        if connect == counted:
            connect = await bus.next_connect(counted)
        try:
            await admission.recount(ask)
        except ArtMancerError:
            await asyncio.sleep(_RETRY_S)
        else:
            counted = connect
