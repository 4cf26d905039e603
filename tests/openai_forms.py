"""Edits as OpenAI's clients send them: forms with a photo, a mask that is transparent where to edit, and fields."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from PIL import Image

from shared import subjects
from shared.topology import JOB_LOG
from tests.gateway import png, saved
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from shared.bus import Bus
    from tests.gateway import Client

PATH = "/v1/images/edits"
SIZE = (64, 48)
Part = tuple[str, tuple[str | None, bytes | str]]


def alpha_mask(
    size: tuple[int, int] = SIZE, box: tuple[int, int, int, int] | None = (10, 10, 30, 30), mode: str = "RGBA"
) -> bytes:
    """Return a black PNG that is transparent in the box; without a box it protects everything."""
    picture = Image.new(mode, size, (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
    if box is not None:
        picture.paste((0,) * len(mode), box)
    return saved(picture)


def parts(**fields: Any) -> list[Part]:
    """Return the parts of a form; files are bytes or lists of bytes, a value of ... omits a field."""
    wanted = {"image": png(size=SIZE), "mask": alpha_mask(), "prompt": "remove", **fields}
    single = [
        (name, item) for name, value in wanted.items() for item in (value if isinstance(value, list) else [value])
    ]
    return [(name, _part(item)) for name, item in single if item is not ...]


def _part(item: Any) -> tuple[str | None, bytes | str]:
    return ("file.png", item) if isinstance(item, bytes) else (None, str(item))


async def send(client: Client, **fields: Any) -> httpx.Response:
    """Send an edit and return the answer."""
    return await client.post(PATH, files=parts(**fields))


@asynccontextmanager
async def sending(
    client: Client, headers: dict[str, str] | None = None, **fields: Any
) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """Send an edit beside the block; a task that has not ended after it is a client that hangs up."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(client.post(PATH, files=parts(**fields), headers=headers), name="edit")
        yield task
        task.cancel()


async def submit(bus: Bus, count: int = 1) -> list[str]:
    """Wait until so many jobs are in the log, and return their ids in order."""
    found: list[str] = []

    async def are_there() -> bool:
        found[:] = [
            subjects.parse_submission(entry.subject).job_id for entry in await bus.history(JOB_LOG, "job.submit.>")
        ]
        return len(found) >= count

    await wait_until(are_there, f"{count} jobs are submitted")
    assert len(found) == count
    return found
