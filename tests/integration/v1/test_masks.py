"""/v1/masks with a real segmentation service and a fake engine."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from services.segmentation import service as segmentation
from services.segmentation.backend import Candidate
from services.segmentation.settings import Settings
from shared.image_codec import decode_mask
from shared.settings import NatsSettings
from tests.gateway import HOST, ORIGIN, mask_png, png
from tests.v1_client import UNKNOWN, beside, removal, upload
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from services.segmentation.backend import CachedFeatures, Checkpoint, Prompt
    from shared.bus import Bus
    from shared.image_codec import Rgb
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client


class Striped:
    """An engine that finds the left half, then the upper half. For an image 13 px wide it never returns."""

    name = "grabcut"
    note = "This is a test."
    begun = threading.Event()
    ended = threading.Event()
    previous_shapes: list[tuple[int, ...] | None] = []  # noqa: RUF012 (the service makes the engine)

    def __init__(self, settings: Settings) -> None:
        """Create the engine."""

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """Return both masks, best first."""
        del cached
        Striped.previous_shapes.append(None if prompt.previous is None else prompt.previous.shape)
        height, width = image.shape[:2]
        if width == 13:
            self._wait_for_ever(checkpoint)
        left, upper = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
        left[:, : width // 2] = 255
        upper[: height // 2] = 255
        return [Candidate(left, 0.9), Candidate(upper, 0.6)][: prompt.candidates]

    def _wait_for_ever(self, checkpoint: Checkpoint) -> None:
        Striped.begun.set()
        pause = threading.Event()
        try:
            while not pause.wait(0.005):
                checkpoint()
        finally:
            Striped.ended.set()


@pytest.fixture
async def engine(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[None]:
    """Provide the segmentation service with that engine."""
    Striped.begun.clear()
    Striped.ended.clear()
    Striped.previous_shapes.clear()
    settings = Settings(
        nats=NatsSettings(url=nats_url), streams=stream_settings, drain_s=0.3, backends=f"{__name__}:Striped"
    )
    async with beside(bus, segmentation.NAME, segmentation.run, settings):
        yield


async def ask(client: Client, accept: str = "*/*", **query: Any) -> httpx.Response:
    """Request masks for a photo of 64 x 48."""
    body = {"image": await upload(client, png()), "points": [[5, 5, 1]], **query}
    return await client.post("/v1/masks", json=body, headers={"Accept": accept})


@pytest.mark.usefixtures("engine")
async def test_the_best_mask_is_found(client: Client, images: NatsImageStore) -> None:
    """The response has the score, the engine and a note."""
    answer = await ask(client)

    found = answer.json()
    assert answer.status_code == 200
    assert (found["engine"], found["note"]) == ("grabcut", "This is a test.")
    assert [candidate["sha256"] for candidate in found["candidates"]] == [found["sha256"]]
    mask = decode_mask(await images.get("inputs", found["sha256"]))
    assert (mask.shape, int(mask[5, 5]), int(mask[5, 60])) == ((48, 64), 255, 0)


@pytest.mark.usefixtures("engine")
async def test_several_candidates_come_best_first(client: Client) -> None:
    """For an ambiguous click; each mask can be downloaded."""
    found = (await ask(client, candidates=3)).json()

    assert len(found["candidates"]) == 2
    assert found["candidates"][0] == {name: found[name] for name in ("sha256", "score", "box", "area")}
    assert [(each["box"], each["area"]) for each in found["candidates"]] == [
        ([0, 0, 32, 48], 0.5), ([0, 0, 64, 24], 0.5),
    ]  # fmt: skip
    assert found["candidates"][0]["score"] > found["candidates"][1]["score"]
    for candidate in found["candidates"]:
        assert (await client.get(f"/v1/images/{candidate['sha256']}")).status_code == 200


@pytest.mark.usefixtures("engine")
async def test_a_found_mask_can_at_once_be_the_mask_of_a_job(client: Client) -> None:
    """The client need not upload it again."""
    found = (await ask(client)).json()

    answer = await client.post("/v1/jobs", json=await removal(client, mask=found["sha256"]))

    assert answer.status_code == 202


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("accept", ["image/png", "image/png;q=1, */*;q=0.1"])
async def test_the_best_mask_itself_can_be_asked_for(client: Client, accept: str) -> None:
    """The body is a PNG; score and engine are in headers that CORS exposes."""
    answer = await ask(client, accept)

    assert answer.headers["content-type"] == "image/png"
    assert (float(answer.headers["x-score"]), answer.headers["x-engine"]) == (0.9, "grabcut")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert decode_mask(answer.content).shape == (48, 64)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("accept", ["application/json", "application/json, image/png", "*/*"])
async def test_json_is_the_rule(client: Client, accept: str) -> None:
    """A client that accepts both receives JSON."""
    assert (await ask(client, accept)).headers["content-type"] == "application/json"


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "prompt",
    [
        {"box": [1, 1, 40, 40]},
        {"strokes": [{"points": [[5, 5], [9, 9]], "radius_px": 3}, {"points": [[50, 5]], "positive": False}]},
        {"auto": True},
        {"points": [[5, 5, 1], [60, 40, 0]], "engine": "birefnet", "grow": -1, "feather": 1.5},
    ],
    ids=["box", "strokes", "auto", "all the rest"],
)
async def test_every_way_of_pointing_is_understood(client: Client, prompt: dict[str, Any]) -> None:
    """Each prompt works alone."""
    assert (await ask(client, **{"points": [], **prompt})).status_code == 200


@pytest.mark.usefixtures("engine")
async def test_a_rough_mask_is_a_way_of_pointing(client: Client) -> None:
    """The mask is uploaded like any image."""
    answer = await ask(client, points=[], mask=await upload(client, mask_png()))

    assert answer.status_code == 200


@pytest.mark.usefixtures("engine")
async def test_a_found_mask_can_be_corrected(client: Client) -> None:
    """The engine gets it with the next click."""
    first = (await ask(client)).json()

    answer = await ask(client, points=[[5, 5, 1], [9, 9, 0]], previous=first["sha256"])

    assert answer.status_code == 200
    assert Striped.previous_shapes == [None, (48, 64)]


@pytest.mark.usefixtures("engine")
async def test_the_previous_mask_of_another_picture_is_refused(client: Client) -> None:
    """The other picture has the same size, or another one."""
    first = (await ask(client)).json()

    for other in (png("olive"), png(size=(30, 20))):
        answer = await ask(client, image=await upload(client, other), previous=first["sha256"])
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")
        assert "belongs to another image" in answer.json()["detail"]


@pytest.mark.usefixtures("engine")
async def test_an_uploaded_mask_can_be_corrected_too(client: Client) -> None:
    """If it has the image's size."""
    fits = await upload(client, mask_png())
    other = await upload(client, png(size=(30, 20)))

    assert (await ask(client, previous=fits)).status_code == 200
    assert "the image's size, 64 x 48" in (await ask(client, previous=other)).json()["detail"]


@pytest.mark.usefixtures("engine")
async def test_nothing_found_has_a_code(client: Client) -> None:
    """Here shrinking the mask leaves nothing."""
    answer = await ask(client, grow=-200)

    assert (answer.status_code, answer.json()["code"]) == (422, "nothing_found")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"points": []}, "points"),
        ({"points": [[5, 5, 2]]}, "points"),
        ({"points": [[5, 5]]}, "points"),
        ({"points": [[900, 5, 1]]}, "outside"),
        ({"box": [1, 2, 3]}, "box"),
        ({"engine": "sam9"}, "engine"),
        ({"candidates": 6}, "candidates"),
        ({"feather": -1}, "feather"),
        ({"colour": "red"}, "colour"),
        ({"image": "x"}, "image"),
        ({"previous": "x"}, "previous"),
    ],
)
async def test_a_senseless_question_is_refused(client: Client, query: dict[str, Any], word: str) -> None:
    """The error is one sentence with the cause."""
    answer = await ask(client, **query)

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")
    assert word in answer.json()["detail"]


@pytest.mark.parametrize("field", ["image", "mask", "previous"])
async def test_a_missing_picture_is_named(client: Client, field: str) -> None:
    """The error names the field, so the client can upload the image again."""
    answer = await ask(client, **{field: UNKNOWN})

    assert (answer.status_code, answer.json()["code"]) == (422, "image_not_found")
    assert f"field {field} " in answer.json()["detail"]


def strokes(count: int) -> list[dict[str, Any]]:
    """Return strokes with this many points together, each of 14 bytes in JSON."""
    points = [[30.25, 21.75]] * 5_000
    return [{"points": points[: count - begin]} for begin in range(0, count, 5_000)]


@pytest.mark.usefixtures("engine")
async def test_more_points_than_a_message_holds_are_refused(client: Client) -> None:
    """64 strokes of 5,000 points are within the bounds of each list, but not of the broker."""
    fits = await ask(client, points=[], strokes=strokes(140_000))
    answers = [await ask(client, points=[], strokes=strokes(count)) for count in (150_000, 320_000)]

    assert fits.status_code == 200
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(413, "too_large")] * 2
    assert answers[1].json()["detail"] == (
        "The request takes 4.3 MiB, but a service accepts 2 MiB. Send less, for example fewer points."
    )
    assert (await client.get("/api/health")).json()["status"] == "healthy"


async def test_without_the_service_it_is_not_available(client: Client) -> None:
    """The response is immediate."""
    answer = await ask(client)

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


@pytest.mark.usefixtures("engine")
async def test_who_hangs_up_frees_the_engine(client: Client) -> None:
    """After a second click the client does not need the first response."""
    body = json.dumps({"image": await upload(client, png(size=(13, 9))), "points": [[5, 5, 1]]}).encode()
    _, writer = await asyncio.open_connection(HOST, client.port)
    head = b"POST /v1/masks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    await wait_until(Striped.begun.is_set, "the engine is at work")

    writer.close()
    await writer.wait_closed()

    await wait_until(Striped.ended.is_set, "the engine is free")
