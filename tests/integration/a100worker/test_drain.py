"""An operator takes one worker out after its job; every part of the system shows it by its name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.core.workers import Workers
from shared import rpc, subjects
from shared.errors import Unavailable
from shared.messages import DrainReply, DrainRequest, WorkerAbilities
from shared.reading import read
from tests.running import script
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage
    from tests.running import Desk


async def drain(bus: Bus, worker: str) -> DrainReply:
    """Drain a worker as an operator does."""
    return await rpc.call(bus, subjects.drain(worker), DrainRequest(), DrainReply, timeout_s=TIMEOUT_S)


async def metadata(bus: Bus) -> dict[str, str]:
    """Return the metadata that `nats micro info` shows of the only worker."""
    answer = await bus.request("$SRV.INFO.a100worker", b"", timeout_s=TIMEOUT_S, headers={})
    found: dict[str, str] = json.loads(answer.data)["metadata"]
    return found


async def test_a_drained_worker_finishes_its_job_and_takes_no_other(desk: Desk, bus: Bus) -> None:
    """The other worker does the next job; a restart of the first one ends the drain."""
    async with desk.manager():
        async with desk.worker(name="w1"):
            await desk.submit("j1", script(50, interval_ms=20))
            await desk.started("j1")
            reply = await drain(bus, "w1")
            await desk.submit("j2", script(1))
            first = await desk.done("j1")
            async with desk.worker(name="w2"):
                second = await desk.done("j2")
        async with desk.worker(name="w1"):
            await desk.submit("j3", script(1))
            third = await desk.done("j3")

    assert (reply.worker, reply.again) == ("w1", False)
    assert [done.worker for done in (first, second, third)] == ["w1", "w2", "w1"]
    assert await desk.attempts("j1") == [1]


async def test_two_drains_of_one_worker_are_one(desk: Desk, bus: Bus) -> None:
    """The second is answered like the first, and says so; an unknown worker is an error."""
    async with desk.manager(), desk.worker(name="w1") as stop:
        replies = [await drain(bus, "w1") for _ in range(2)]
        with pytest.raises(Unavailable):
            await drain(bus, "nobody")
        stop.set()  # a drained worker still stops at once

    assert [reply.again for reply in replies] == [False, True]


async def test_a_worker_shows_its_engine_and_its_job(desk: Desk, bus: Bus) -> None:
    """In `nats micro info`, as it is at that moment."""
    async with desk.manager(), desk.worker(name="w1"):
        idle = await metadata(bus)
        await desk.submit("j1", script(10_000, interval_ms=20))
        await desk.started("j1")
        busy = await metadata(bus)
        reply = await drain(bus, "w1")
        step = await desk.step("j1")

        async def goes_on() -> bool:
            return await desk.step("j1") > step

        await wait_until(goes_on, "the drained worker goes on with its job")
        await desk.cancel("j1")

        async def is_free() -> bool:
            return (await metadata(bus))["busy"] == "no"

        await wait_until(is_free, "the worker shows that it is free")
        drained = await metadata(bus)

    common = {"instance": "w1", "engine": "scripted", "model": "", "device": "cpu"}
    assert idle == common | {"state": "ready", "busy": "no", "job": ""}
    assert busy == common | {"state": "ready", "busy": "yes", "job": "j1"}
    assert reply.job == "j1"
    assert drained == common | {"state": "draining", "busy": "no", "job": ""}


async def test_a_worker_that_stops_is_not_a_lost_one(desk: Desk, bus: Bus) -> None:
    """Its last announcement ends its presence."""
    workers, heard = Workers(bus), list[str]()

    def receive(stored: StoredMessage) -> None:
        abilities = read(WorkerAbilities, stored.data)
        heard.append(abilities.state)
        workers.note(abilities)

    async with desk.manager(), bus.subscribe(subjects.WORKERS, receive):
        await bus.client.flush()  # the worker publishes on another connection
        async with desk.worker(name="w1"):
            await wait_until(lambda: "ready" in heard, "the worker has announced itself")
            there = workers.instances()
        await wait_until(lambda: "stopped" in heard, "the worker has announced its stop")

    known: dict[str, Any] = {"instance": "w1", "engine": "scripted", "device": "cpu", "state": "ready"}
    assert there == [known]
    assert workers.instances() == []
