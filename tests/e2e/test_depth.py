"""Photos with 16 bits a channel through the whole system, and the statements of their receipts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.unit.shared.deep_files import png, read_png, tiff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

HEIGHT, WIDTH = 120, 160
KEPT = "edited at 8 bits, kept 16 outside"


@pytest.fixture
async def client(stack_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Provide a client of the running stack."""
    async with httpx.AsyncClient(base_url=stack_url, timeout=150) as client:
        yield client


def gradient() -> NDArray[np.uint16]:
    """Return a warm sky with noise in its lower bits."""
    light = np.linspace(20_000, 50_000, HEIGHT)[:, None, None] * np.array([1.0, 0.9, 0.7]) * np.ones((1, WIDTH, 1))
    pixels: NDArray[np.uint16] = (light + np.random.default_rng(3).integers(0, 900, light.shape)).astype(np.uint16)
    return pixels


def box() -> bytes:
    """Return a mask of a box in the middle."""
    mask, file = Image.new("L", (WIDTH, HEIGHT)), io.BytesIO()
    mask.paste(255, (60, 40, 100, 80))
    mask.save(file, "PNG")
    return file.getvalue()


async def upload(client: httpx.AsyncClient, data: bytes) -> dict[str, Any]:
    answer = await client.post("/v1/images", content=data, headers={"Content-Type": "application/octet-stream"})
    return dict(answer.raise_for_status().json())


async def edit(client: httpx.AsyncClient, **order: str) -> tuple[bytes, dict[str, Any]]:
    """Run a job; return its result and its receipt."""
    links = (await client.post("/v1/jobs", json=order)).raise_for_status().json()["links"]
    async with client.stream("GET", links["events"]) as events:
        async for _ in events.aiter_lines():
            pass  # the stream ends with the job
    result = (await client.get(links["result"])).raise_for_status().content
    return result, dict((await client.get(links["receipt"])).raise_for_status().json())


@pytest.mark.parametrize("kind", ["png", "tiff"])
async def test_a_removal_keeps_sixteen_bits(client: httpx.AsyncClient, kind: str) -> None:
    """Away from the mask every bit is the upload's; the upload and the receipt have the same note."""
    photo = gradient()
    image = await upload(client, (png if kind == "png" else tiff)(photo))
    mask = await upload(client, box())

    result, receipt = await edit(client, task="removal", image=image["sha256"], mask=mask["sha256"])

    changed = np.any(read_png(result) != photo, axis=2)
    assert changed[45:75, 65:95].all()
    assert not changed[:30].any()
    assert not changed[:, :50].any()
    assert image["notes"] == receipt["notes"] == [KEPT]
    assert receipt["pixels_changed_outside_mask"] == 0


async def test_a_white_balance_changes_all_sixteen_bits(client: httpx.AsyncClient) -> None:
    """It has more than the 256 steps of 8 bits, and a receipt without a note."""
    image = await upload(client, png(gradient()))

    result, receipt = await edit(client, task="white-balance", image=image["sha256"])

    assert len(np.unique(read_png(result)[..., 1])) > 5000
    assert receipt["notes"] == []


async def test_an_insertion_names_what_both_photos_lose(client: httpx.AsyncClient) -> None:
    """The note on a reference says so."""
    frames, file = [Image.new("RGB", (40, 40), (200, 30 * number, 40)) for number in range(3)], io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    photo = gradient()
    image, mask = await upload(client, png(photo)), await upload(client, box())
    reference = await upload(client, file.getvalue())

    result, receipt = await edit(
        client, task="insertion", image=image["sha256"], mask=mask["sha256"], reference=reference["sha256"]
    )

    assert np.array_equal(read_png(result)[:20], photo[:20])
    assert receipt["notes"] == [KEPT, "reference: first of 3 frames"]
