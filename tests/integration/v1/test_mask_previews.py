"""/v1/masks/preview with a real segmentation service and a fake engine."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from services.segmentation import service as segmentation
from services.segmentation.backend import Candidate, Outlined
from services.segmentation.settings import Settings
from shared import subjects
from shared.settings import NatsSettings
from shared.topology import OWNED
from tests.gateway import HOST, png
from tests.v1_client import UNKNOWN, beside, upload
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from services.segmentation.backend import CachedFeatures, Checkpoint, Click, Prompt, SeenFeatures
    from shared.bus import Bus, StoredMessage
    from shared.image_codec import Rgb
    from shared.settings import StreamSettings
    from tests.gateway import Client

WIDTH, HEIGHT = 64, 48


class Pointing:
    """An engine that outlines the left half of an image that it has seen; a point on the right half takes for ever."""

    name = "sam"
    note = None
    begun, may_end = threading.Event(), threading.Event()

    def __init__(self, settings: Settings) -> None:
        """Create the engine."""

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """See the image."""
        del prompt, checkpoint
        cached("sight", lambda: np.zeros(1, np.uint8))
        return [Candidate(np.full(image.shape[:2], 255, np.uint8), 1.0)]

    def outline(self, width: int, height: int, click: Click, seen: SeenFeatures) -> Outlined | None:
        """Return a mask of 8 x 8."""
        if seen("sight") is None:
            return None
        assert (width, height) == (WIDTH, HEIGHT)
        if click.x >= WIDTH / 2:
            Pointing.begun.set()
            assert Pointing.may_end.wait(30)
        mask = np.zeros((8, 8), np.uint8)
        mask[:, :4] = 255 if click.y < HEIGHT / 2 else 0
        return Outlined(mask, 0.75)


@pytest.fixture
async def photo(bus: Bus, nats_url: str, stream_settings: StreamSettings, client: Client) -> AsyncIterator[str]:
    """Provide the segmentation service with that engine, and a photo of 64 x 48."""
    Pointing.begun.clear()
    Pointing.may_end.clear()
    settings = Settings(
        nats=NatsSettings(url=nats_url), streams=stream_settings, drain_s=0.3, backends=f"{__name__}:Pointing"
    )
    async with beside(bus, segmentation.NAME, segmentation.run, settings):
        yield await upload(client, png())
        Pointing.may_end.set()


async def hover(client: Client, image: str, x: float, y: float, **query: Any) -> httpx.Response:
    """Ask for the outline under the pointer."""
    return await client.post("/v1/masks/preview", json={"image": image, "point": [x, y], **query})


async def test_the_outline_comes_in_pixels_of_the_image_and_nothing_is_stored(
    client: Client, bus: Bus, photo: str
) -> None:
    """A click would select the inside."""
    await client.post("/v1/masks", json={"image": photo, "points": [[5, 5, 1]]})
    before = len(await bus.history(OWNED, ">"))

    answer = await hover(client, photo, 5, 5)

    assert answer.status_code == 200
    found = answer.json()
    assert (found["status"], found["score"], found["engine"]) == ("found", 0.75, "sam")
    corners = {(x, y) for x, y in found["outline"][0]}
    assert max(abs(x - near) + abs(y - far) for x, y in corners for near, far in [min_corner(x, y)]) <= 4
    assert len(await bus.history(OWNED, ">")) == before


def min_corner(x: float, y: float) -> tuple[float, float]:
    """Return the corner of the left half that is nearest."""
    return min(((0, 0), (32, 0), (32, 48), (0, 48)), key=lambda corner: abs(corner[0] - x) + abs(corner[1] - y))


async def test_an_image_that_was_not_seen_is_not_looked_at(client: Client, photo: str) -> None:
    """The answer says so; a mask request sees the image."""
    assert (await hover(client, photo, 5, 5)).json() == {
        "status": "not-seen", "outline": [], "score": 0.0, "engine": "sam",
    }  # fmt: skip


async def test_nothing_under_the_pointer_is_an_answer(client: Client, photo: str) -> None:
    """Not an error."""
    await client.post("/v1/masks", json={"image": photo, "points": [[5, 5, 1]]})

    assert (await hover(client, photo, 5, 40)).json()["status"] == "nothing"


async def test_only_the_newest_is_worked_on(client: Client, photo: str) -> None:
    """Older ones are answered at once and say so, whether they wait or are at work."""
    await client.post("/v1/masks", json={"image": photo, "points": [[5, 5, 1]]})
    async with asyncio.TaskGroup() as group:
        older = [group.create_task(hover(client, photo, 60, 5))]
        await wait_until(Pointing.begun.is_set, "the engine is at work")
        for _ in range(3):
            older.append(group.create_task(hover(client, photo, 60, 5)))
            await wait_until(older[-2].done, "the older request is answered")
        newest = group.create_task(hover(client, photo, 5, 5))
        await wait_until(older[-1].done, "all older requests are answered")
        Pointing.may_end.set()

    assert [task.result().json()["status"] for task in older] == ["superseded"] * 4
    assert newest.result().json()["status"] == "found"


async def test_who_moves_on_cancels_the_work(client: Client, bus: Bus, photo: str) -> None:
    """A closed connection reaches the segmentation service."""
    await client.post("/v1/masks", json={"image": photo, "points": [[5, 5, 1]]})
    cancelled: list[str] = []

    def note(message: StoredMessage) -> None:
        cancelled.append(message.subject)

    async with bus.subscribe(subjects.SEG_CANCEL, note):
        await bus.client.flush()  # the gateway publishes on another connection
        body = json.dumps({"image": photo, "point": [60, 5]}).encode()
        _, writer = await asyncio.open_connection(HOST, client.port)
        head = b"POST /v1/masks/preview HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        await wait_until(Pointing.begun.is_set, "the engine is at work")
        writer.close()
        await writer.wait_closed()

        await wait_until(lambda: len(cancelled) == 1, "the request is cancelled")
    Pointing.may_end.set()


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"point": [900, 5]}, "outside"),
        ({"point": [5]}, "point"),
        ({"engine": "x"}, "engine"),
        ({"image": UNKNOWN}, "image"),
    ],
)
async def test_a_senseless_question_is_refused(client: Client, photo: str, query: dict[str, Any], word: str) -> None:
    """The error is one sentence with the cause."""
    answer = await client.post("/v1/masks/preview", json={"image": photo, "point": [5, 5], **query})

    assert answer.status_code == 422
    assert word in answer.json()["detail"]
