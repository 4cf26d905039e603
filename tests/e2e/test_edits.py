"""Real photos through the whole system, over HTTP, as the deployed client sends them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

SAMPLES = Path("services/gateway/static/samples")
SHUTTLE_BOX = (345, 0, 480, 290)


@pytest.fixture
async def client(stack_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Provide a client of the running stack."""
    async with httpx.AsyncClient(base_url=stack_url, timeout=150) as client:
        yield client


def photo(name: str) -> Image.Image:
    """Return one of the sample photos."""
    return Image.open(SAMPLES / f"{name}.jpg").convert("RGB")


def as_base64(image: Image.Image) -> str:
    """Encode an image as the client does for JSON."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def from_base64(text: str) -> Image.Image:
    """Decode an image from JSON."""
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


def rectangle(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Return a mask as the client draws it: white on opaque black."""
    mask = Image.new("RGB", size)
    ImageDraw.Draw(mask).rectangle(box, fill=(255, 255, 255))
    return mask


def live_body(task: str, image: Image.Image, mask: Image.Image | None, **more: object) -> dict[str, Any]:
    """Return a body as the deployed page sends it, with its defaults and duplicates."""
    encoded = "" if mask is None else as_base64(mask)
    body: dict[str, Any] = {
        "prompt": "",
        "input_image": as_base64(image),
        "mask_image": encoded,
        "num_inference_steps": 15,
        "guidance_scale": 2.0,
        "true_cfg_scale": 2.0,
        "seed": 42,
        "task_type": task,
        "input_quality": "resized",
        "mask_tool_type": "brush",
        "enable_mae_refinement": True,
        "enable_debug": False,
        **more,
    }
    return body if mask is None else {**body, "conditional_images": [encoded]}


async def run_edit(client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[list[dict[str, Any]], NDArray[np.uint8]]:
    """Submit, read the stream to its end and return its events and the result, as the client does."""
    accepted = (await client.post("/api/generate/async", json=body)).raise_for_status().json()
    async with client.stream("GET", f"/api/generate/stream/{accepted['task_id']}") as stream:
        events = [json.loads(line[5:]) async for line in stream.aiter_lines() if line.startswith("data:")]
    result = (await client.get(f"/api/generate/result-image/{accepted['task_id']}")).raise_for_status()
    return events, np.asarray(Image.open(io.BytesIO(result.content)).convert("RGB"))


async def test_a_marked_object_is_removed_and_nothing_else_changes(client: httpx.AsyncClient) -> None:
    """The shuttle is removed; all pixels away from its mask are those of the upload."""
    before = photo("astronaut")
    answer = await client.post("/api/smart-mask", json={"image": as_base64(before), "bbox": SHUTTLE_BOX})
    mask = from_base64(answer.raise_for_status().json()["mask_base64"])

    events, after = await run_edit(client, live_body("removal", before, mask))

    inside = np.asarray(mask.convert("L")) > 128
    changed = np.any(np.asarray(before) != after, axis=2)
    rows, columns = np.nonzero(inside)
    far = np.ones_like(changed)
    far[max(0, rows.min() - 40) : rows.max() + 40, max(0, columns.min() - 40) : columns.max() + 40] = False
    assert mask.size == before.size
    assert 0.03 < inside.mean() < 0.15
    assert changed[inside].mean() > 0.9
    assert not changed[far].any()
    assert any(event["current_step"] for event in events)
    assert events[-1]["status"] == "done"


async def test_an_extracted_object_is_inserted_at_the_mask(client: httpx.AsyncClient) -> None:
    """As the client does: extract, then send the square with the mask in the frame of the original."""
    source, before = photo("astronaut"), photo("rocket")
    cut = (await client.post("/api/smart-mask", json={"image": as_base64(source), "bbox": SHUTTLE_BOX})).json()
    square = await client.post(
        "/api/image-utils/extract-object", json={"image": as_base64(source), "mask": cut["mask_base64"]}
    )
    place = (205, 205, 285, 405)

    _, after = await run_edit(
        client,
        live_body(
            "insertion",
            before,
            rectangle(before.size, place),
            reference_image=square.raise_for_status().json()["extracted_image"],
            reference_mask_R=cut["mask_base64"],
        ),
    )

    changed = np.any(np.asarray(before) != after, axis=2)
    assert changed[205:405, 205:285].mean() > 0.3
    assert not changed[:150].any()
    assert not changed[:, 400:].any()
    assert not changed[:, :100].any()


async def test_a_colour_cast_is_removed(client: httpx.AsyncClient) -> None:
    """At least half of an artificial warm cast is gone afterwards."""
    truth = np.asarray(photo("coffee"), dtype=np.float64)
    warm = Image.fromarray((truth * (1.0, 0.8, 0.55)).astype(np.uint8))

    _, after = await run_edit(client, live_body("white-balance", warm, None))

    ratio = after.reshape(-1, 3).mean(axis=0) / truth.reshape(-1, 3).mean(axis=0)
    warm_ratio = np.asarray(warm).reshape(-1, 3).mean(axis=0) / truth.reshape(-1, 3).mean(axis=0)
    assert np.ptp(ratio / ratio.mean()) < np.ptp(warm_ratio / warm_ratio.mean()) / 2


async def test_the_same_submission_gives_the_same_bytes(client: httpx.AsyncClient) -> None:
    """Seed, image and mask determine the result."""
    body = live_body("removal", photo("rocket"), rectangle((640, 427), (300, 120, 345, 410)))

    _, first = await run_edit(client, body)
    _, second = await run_edit(client, body)

    assert np.array_equal(first, second)


async def test_a_rotated_photo_comes_back_upright_at_its_own_size(client: httpx.AsyncClient) -> None:
    """With EXIF orientation 6 the browser shows the photo turned; the mask and the result are turned too."""
    shown = photo("rocket")
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    shown.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=95, exif=exif.tobytes())
    body = live_body("removal", shown, rectangle(shown.size, (300, 120, 345, 410)), input_quality="original")
    body["input_image"] = base64.b64encode(buffer.getvalue()).decode()

    _, after = await run_edit(client, body)

    assert after.shape == (427, 640, 3)
    assert np.abs(after[:, :200].astype(int) - np.asarray(shown)[:, :200]).mean() < 6  # JPEG made it inexact


async def test_cancel_stops_a_running_edit(client: httpx.AsyncClient) -> None:
    """The stream ends with `cancelled`, and the result has the text that the client compares."""
    large = photo("rocket").resize((2048, 1366))
    body = live_body("removal", large, rectangle(large.size, (400, 100, 1600, 1300)))
    job = (await client.post("/api/generate/async", json=body)).json()["task_id"]
    last: dict[str, Any] = {}
    async with client.stream("GET", f"/api/generate/stream/{job}") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                last = json.loads(line[5:])
                if last["status"] == "processing":
                    await client.post(f"/api/generate/async/cancel/{job}")

    result = await client.get(f"/api/generate/result/{job}")

    assert last["status"] == "cancelled"
    assert result.status_code >= 400
    assert result.json()["detail"] == "Request cancelled"


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"input_image": "%%%"}, 422, "base64"),
        ({"input_image": base64.b64encode(b"hello").decode()}, 422, "image"),
        ({"input_image": "blob:http://localhost:3000/1-2"}, 422, "browser"),
        ({"conditional_images": None, "mask_image": ""}, 422, "mask"),
        ({"num_inference_steps": 1000}, 422, "num_inference_steps"),
        ({"task_type": "insertion"}, 422, "reference"),
    ],
)
async def test_bad_submissions_are_refused_in_one_sentence(
    client: httpx.AsyncClient, change: dict[str, Any], status: int, word: str
) -> None:
    """The right status and a short text that names the fault without the input."""
    body = {**live_body("removal", photo("cat"), rectangle((451, 300), (10, 10, 90, 90))), **change}

    answer = await client.post("/api/generate/async", json=body)

    detail = answer.json()["detail"]
    assert answer.status_code == status
    assert word in detail
    assert len(detail) < 200
    assert "oom" not in detail.lower()
