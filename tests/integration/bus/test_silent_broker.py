"""A broker that does not reply for seconds, because of a slow disk or a machine that stands still."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared import subjects
from shared.errors import BrokerUnavailable
from shared.topology import JOB_DLQ
from tests.running import script
from tests.waiting import frozen, wait_until

if TYPE_CHECKING:
    from services.stack.nats_server import NatsServer
    from shared.bus import Bus
    from tests.running import Desk


LETTER = subjects.dead_letter("test", "j1")


async def test_a_broker_that_stands_still_for_seconds_is_asked_again(nats_server: NatsServer, bus: Bus) -> None:
    """Its disk may block it for longer than one attempt; the reader gets its answer all the same."""
    stored = await bus.publish(LETTER, b"x")
    assert nats_server.pid is not None
    async with frozen(nats_server.pid):
        with pytest.raises(BrokerUnavailable):
            await bus.ping()
        reading = asyncio.create_task(bus.history(JOB_DLQ, LETTER), name="read-all")
        last = asyncio.create_task(bus.last(JOB_DLQ, LETTER), name="read-last")
        asked = bus.client.stats["out_msgs"]
        await wait_until(lambda: bus.client.stats["out_msgs"] >= asked + 4, "both have asked twice")
    newest = await last

    assert newest is not None
    assert newest.seq == stored
    assert [message.seq for message in await reading] == [stored]


async def test_a_worker_that_stops_does_not_wait_for_it(desk: Desk, nats_server: NatsServer) -> None:
    """Its job comes back when the lease ends; a process that exceeds its time to stop would count as hung."""
    async with desk.manager(), desk.worker_process(A100WORKER_DRAIN_S="1") as worker:
        await desk.submit("j1", script(6000, interval_ms=50))
        await desk.started("j1")
        assert nats_server.pid is not None
        async with frozen(nats_server.pid):
            worker.terminate()
            code = await worker.wait()

    assert code == 0
