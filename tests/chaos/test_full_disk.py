"""A full disk of the broker: unstored submissions are not accepted, and stored ones are not lost."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from services.stack.nats_server import NatsServer
from services.stack.stack import Options, Stack
from shared import declaring, subjects
from shared.bus import open_bus
from shared.errors import BrokerUnavailable
from shared.settings import NatsSettings
from shared.topology import JOB_LOG
from tests.chaos.faults.disk import STORE_BYTES, CannotMount, fill_disk, small_disk
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.chaos.verdict.ledger import Story
    from tests.running import Desk

SMALL_MB = 64


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """Provide a server with its store on a small disk."""
    try:
        with small_disk(tmp_path / "nats", SMALL_MB):
            async with NatsServer(tmp_path / "nats", max_store_bytes=STORE_BYTES) as server:
                yield server
    except CannotMount as error:
        skip_without_mount(error)


def skip_without_mount(error: CannotMount) -> None:
    """Skip if this user may not mount; CI may."""
    if os.environ.get("CI") and os.geteuid() == 0:
        pytest.fail(str(error))
    pytest.skip(f"{error} It takes root, and a system that lets it.")


async def submit_until_refused(bus: Bus) -> None:
    """Submit until a refusal: the first submissions may fit into space that the broker has allocated already."""
    while True:
        await bus.publish(subjects.submission("batch", "u1", "large"), b"x" * 100_000, deadline_s=0.5)


async def test_a_full_disk_costs_no_accepted_job(
    desk: Desk,
    nats_server: NatsServer,
    tmp_path: Path,
    bus: Bus,
    stream_settings: StreamSettings,
    check_all_kept: Callable[[], Awaitable[dict[str, Story]]],
) -> None:
    """Submissions are refused. With free space and a new broker the running and the waiting jobs are done."""
    async with desk.manager(), desk.worker():
        await desk.submit("before")
        await desk.done("before")
        await desk.submit("running", script(50, interval_ms=100))  # longer than a restart of the broker
        await desk.submit("waiting")
        await desk.started("running")
        with fill_disk(tmp_path / "nats"):
            with pytest.raises(BrokerUnavailable):
                await submit_until_refused(bus)
            accepted = [stored.seq for stored in await bus.history(JOB_LOG, subjects.submissions_of("large"))]
        nats_server.terminate()
        await nats_server.wait()
        await nats_server.start()
        await wait_until(lambda: bus.is_connected, "the broker is back")
        for job_id in ("running", "waiting"):
            await desk.done(job_id)
        await desk.submit("after")
        await desk.done("after")
        await declaring.declare_streams(bus, stream_settings)
        stories = await check_all_kept()

    refused = [story for story in stories.values() if story.end == "failed:bad_message"]
    assert len(refused) == len(accepted)


async def test_on_a_laptop_the_streams_open_again_by_themselves(tmp_path: Path) -> None:
    """They do once there is free space, without an operator."""
    store, announced, lines = tmp_path / "nats", list[str](), list[str]()
    stack = Stack(
        Options(port=0, data=tmp_path), [], announce=announced.append, log=lambda *line: lines.append(": ".join(line))
    )
    try:
        with small_disk(store, SMALL_MB):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(stack.run(), name="stack")
                try:
                    await wait_until(lambda: bool(announced), "the broker is there")
                    await fill_and_make_room(announced[0].removeprefix("broker "), store)
                finally:
                    stack.stop()
    except CannotMount as error:
        skip_without_mount(error)

    assert any("restarting nats-server to reopen its streams" in line for line in lines)


async def fill_and_make_room(url: str, store: Path) -> None:
    """Fill the disk until a write fails, then free it until a write succeeds."""
    async with open_bus(NatsSettings(url=url), "test") as bus:
        await bus.client.jetstream().add_stream(name="NOTES", subjects=["notes"])

        async def can_write(size: int = 1) -> bool:
            try:
                await bus.publish("notes", bytes(size), deadline_s=0.5)
            except BrokerUnavailable:
                return False
            return True

        with fill_disk(store):
            while await can_write(100_000):
                pass
        await wait_until(can_write, "the stream is written again", timeout_s=30)
