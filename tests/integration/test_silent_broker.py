"""A broker that is there and says nothing for seconds: it waits for its disk, or the whole machine stands still."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psutil

from shared import subjects
from shared.topology import JOB_DLQ
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.nats_server import NatsServer
    from shared.bus import Bus


LETTER = subjects.dead("test", "j1")


async def test_a_broker_that_stands_still_for_seconds_is_asked_again(nats_server: NatsServer, bus: Bus) -> None:
    """Its disk may hold it up for longer than one attempt; whoever reads need not know."""
    stored = await bus.publish(LETTER, b"x")
    process = psutil.Process(nats_server.pid)
    process.suspend()
    try:
        reading = asyncio.create_task(bus.history(JOB_DLQ, LETTER), name="read-all")
        last = asyncio.create_task(bus.last(JOB_DLQ, LETTER), name="read-last")
        asked = bus.client.stats["out_msgs"]
        await wait_until(lambda: bus.client.stats["out_msgs"] >= asked + 4, "both have asked twice")
    finally:
        process.resume()
    newest = await last

    assert newest is not None
    assert newest.seq == stored
    assert [message.seq for message in await reading] == [stored]
