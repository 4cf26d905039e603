"""Common operations of a /v1 client, for tests."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import rpc, subjects
from shared.errors import Unavailable
from shared.messages import HealthReply, HealthRequest, JobSubmit
from shared.topology import JOB_LOG
from tests.gateway import mask_png, png
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import httpx

    from shared.bus import Bus
    from shared.settings import ServiceSettings
    from tests.gateway import Client, Wire

UNKNOWN = "0" * 64


@dataclass(frozen=True)
class StreamedEvent:
    """An event of a job's stream."""

    seq: int
    name: str
    facts: dict[str, Any]


def parse_event(frame: bytes) -> StreamedEvent:
    """Parse a frame of exactly three lines: id, event, data."""
    number, name, data, *rest = frame.decode().split("\n")
    assert rest == ["", ""], frame
    assert number.startswith("id: ")
    assert name.startswith("event: ")
    assert data.startswith("data: ")
    return StreamedEvent(int(number[4:]), name[7:], json.loads(data[6:]))


async def next_event(wire: Wire) -> StreamedEvent:
    """Return the next event; skip comments."""
    while (frame := await wire.chunk()).startswith(b":"):
        pass
    return parse_event(frame)


async def read_events(wire: Wire) -> list[StreamedEvent]:
    """Return all events until the body ends."""
    return [parse_event(frame) for frame in await wire.rest() if not frame.startswith(b":")]


async def logged_submission(bus: Bus, job_id: str) -> list[JobSubmit]:
    """Return the job's submission in the log."""
    stored = await bus.history(JOB_LOG, subjects.submissions_of(job_id))
    return [JobSubmit.model_validate_json(entry.data) for entry in stored]


async def submit_body(client: Client, body: dict[str, Any], key: str | None = None) -> httpx.Response:
    """Submit a body as it is, perhaps with an Idempotency-Key."""
    return await client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key} if key else {})


async def upload(client: Client, data: bytes) -> str:
    """Upload an image and return its name."""
    answer = await client.post("/v1/images", content=data, headers={"Content-Type": "application/octet-stream"})
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["sha256"])


async def removal(client: Client, **changes: Any) -> dict[str, Any]:
    """Upload a photo and a mask and return the submission of a removal; a value of ... omits a field."""
    submission = {"task": "removal", "image": await upload(client, png()), "mask": await upload(client, mask_png())}
    return {key: value for key, value in {**submission, **changes}.items() if value is not ...}


async def submit(client: Client, **changes: Any) -> str:
    """Submit a removal and return the job's id."""
    answer = await client.post("/v1/jobs", json=await removal(client, **changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@asynccontextmanager
async def beside(
    bus: Bus, name: str, run: Callable[[Any, asyncio.Event], Awaitable[None]], settings: ServiceSettings
) -> AsyncIterator[None]:
    """Run a service in this event loop; yield when it is healthy."""
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
