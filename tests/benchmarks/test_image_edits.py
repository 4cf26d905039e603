"""POST /v1/images/edits: its cost for the gateway beside the same edit by /v1, and the wait for the first preview."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from PIL import Image

from tests.benchmarks.measuring.meter import Cpu
from tests.benchmarks.measuring.photos import distinct, mask, photo
from tests.benchmarks.measuring.servers import Stack, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.measuring.meter import Table

pytestmark = pytest.mark.timeout(300)
SIDE_PX, EDITS = 1024, 40
SCRIPT = json.dumps({"steps": 0, "interval_ms": 0})
WITH_PREVIEWS = json.dumps({"steps": 10, "interval_ms": 100, "previews": True})
TARGET_MS, FIRST_PREVIEW_S = 5.0, 1.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("edits"), A100WORKER_BACKEND="scripted") as running:
        yield running


def transparent(marks: bytes) -> bytes:
    """Return a mask of ours as OpenAI's clients send it: transparent where it is white."""
    with Image.open(io.BytesIO(marks)) as opened:
        grey = opened.convert("L")
    picture = Image.new("RGBA", grey.size)
    picture.putalpha(grey.point([255 - value for value in range(256)]))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


async def edit_by_v1(client: httpx.AsyncClient, image: bytes, marks: bytes) -> bytes:
    """Upload, submit, follow to the end, download, as the SDK does."""
    kind = {"Content-Type": "image/png"}
    sha256, marked = [
        (await client.post("/v1/images", content=data, headers=kind)).json()["sha256"] for data in (image, marks)
    ]
    body = {"task": "removal", "image": sha256, "mask": marked, "prompt": SCRIPT}
    job_id = (await client.post("/v1/jobs", json=body)).json()["id"]
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as events:
        await events.aread()
    return (await client.get(f"/v1/jobs/{job_id}/result")).content


async def edit_by_form(client: httpx.AsyncClient, image: bytes, marks: bytes) -> bytes:
    """Send the same edit in one request."""
    files = {"image": ("photo.png", image), "mask": ("mask.png", marks)}
    answer = await client.post("/v1/images/edits", files=files, data={"prompt": SCRIPT})
    assert answer.status_code == 200, answer.text[:300]
    return base64.b64decode(answer.json()["data"][0]["b64_json"])


async def test_an_edit_costs_the_gateway_little_more_than_by_v1(table: Table, stack: Stack) -> None:
    """A new photo and a new mask each time."""
    image, marks = photo(SIDE_PX), mask(SIDE_PX)
    ways = {"v1": (edit_by_v1, marks), "form": (edit_by_form, transparent(marks))}
    cpu = {name: Cpu(stack.processes["gateway"]) for name in ways}
    async with httpx.AsyncClient(base_url=stack.url, timeout=60, trust_env=False) as client:
        for turn, (name, (edit, form)) in enumerate(ways.items()):
            await edit(client, distinct(image, 1000 + turn), distinct(form, 1000 + turn))
            with cpu[name]:
                for number in range(EDITS):
                    at = number + turn * EDITS
                    result = await edit(client, distinct(image, at), distinct(form, at))
            assert Image.open(io.BytesIO(result)).size == (SIDE_PX, SIDE_PX)

    ours, plain = (cpu[name].ms / EDITS for name in ("form", "v1"))
    table.row(f"images/edits, {SIDE_PX} px, gateway CPU", ours, "ms", target=plain + TARGET_MS, baseline=plain)


async def test_the_first_preview_comes_soon(table: Table, stack: Stack) -> None:
    """The time counts from the request, so it includes the upload."""
    files = {"image": ("photo.png", photo(SIDE_PX)), "mask": ("mask.png", transparent(mask(SIDE_PX)))}
    data = {"prompt": WITH_PREVIEWS, "stream": "true", "partial_images": "3"}
    async with httpx.AsyncClient(base_url=stack.url, timeout=60, trust_env=False) as client:
        began = time.perf_counter()
        async with client.stream("POST", "/v1/images/edits", files=files, data=data) as answer:
            lines = answer.aiter_lines()
            while not (await anext(lines)).startswith("event: image_edit.partial_image"):
                pass
            took_s = time.perf_counter() - began
            await answer.aclose()

    table.row("first partial image after the request", took_s, "s", target=FIRST_PREVIEW_S)
