"""What a program that uses /v1 does again and again, for tests."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import rpc, subjects
from shared.errors import Unavailable
from shared.messages import HealthReply, HealthRequest
from tests.gateway import mask_png, png
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.bus import Bus
    from shared.settings import ServiceSettings
    from tests.gateway import Client, Wire

UNKNOWN = "0" * 64


@dataclass(frozen=True)
class Told:
    """An event of a job, as the stream tells it."""

    seq: int
    name: str
    facts: dict[str, Any]


def told(frame: bytes) -> Told:
    """Read a frame of exactly three lines: id, event, data."""
    number, name, data, *rest = frame.decode().split("\n")
    assert rest == ["", ""], frame
    assert number.startswith("id: ")
    assert name.startswith("event: ")
    assert data.startswith("data: ")
    return Told(int(number[4:]), name[7:], json.loads(data[6:]))


async def next_told(wire: Wire) -> Told:
    """Return the next event, past the comments."""
    while (frame := await wire.chunk()).startswith(b":"):
        pass
    return told(frame)


async def all_told(wire: Wire) -> list[Told]:
    """Return all events until the body ends."""
    return [told(frame) for frame in await wire.rest() if not frame.startswith(b":")]


async def upload(client: Client, data: bytes) -> str:
    """Store a picture and return its name."""
    answer = await client.post("/v1/images", content=data, headers={"Content-Type": "application/octet-stream"})
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["sha256"])


async def removal(client: Client, **changes: Any) -> dict[str, Any]:
    """Store a photo and a mask, and return the order of a removal; a value of ... leaves a field out."""
    order = {"task": "removal", "image": await upload(client, png()), "mask": await upload(client, mask_png())}
    return {key: value for key, value in {**order, **changes}.items() if value is not ...}


async def submit(client: Client, **changes: Any) -> str:
    """Order a removal and return its job's id."""
    answer = await client.post("/v1/jobs", json=await removal(client, **changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@asynccontextmanager
async def beside(
    bus: Bus, name: str, run: Callable[[Any, asyncio.Event], Awaitable[None]], settings: ServiceSettings
) -> AsyncIterator[None]:
    """A service in this event loop, healthy."""
    stop = asyncio.Event()

    async def work() -> None:
        await run(settings, stop)

    async def healthy() -> bool:
        try:
            reply = await rpc.call(bus, subjects.health(name), HealthRequest(), HealthReply, timeout_s=1)
        except Unavailable:
            return False
        return reply.status == "healthy"

    async with asyncio.TaskGroup() as group:
        group.create_task(work(), name=name)
        await wait_until(healthy, f"{name} is healthy")
        try:
            yield
        finally:
            stop.set()
