"""Extract-object over HTTP: its cost in all processes together, and the throughput of other requests meanwhile."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import time
from statistics import median
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel

from tests.benchmarks.measuring.meter import Cpu
from tests.benchmarks.measuring.photos import base64_of, distinct, mask, photo
from tests.benchmarks.measuring.prober import probed_ms
from tests.benchmarks.measuring.servers import Stack, plain_server, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.measuring.meter import Table

pytestmark = pytest.mark.timeout(300)
ROUTE = "/api/image-utils/extract-object"
TARGET_CPU_MS = {1024: 100.0, 2048: 280.0}
HEALTH_TARGET_MS = 20.0
REQUESTS = 10
AT_ONCE = 8
BUSY_S, REST_S = 6.0, 2.0


# --- the baseline: Pillow and the standard library ----------------------------------------------------------------


class Order(BaseModel):
    """Both in base64."""

    image: str
    mask: str


def plain_app() -> FastAPI:
    """Return the same service in one process."""
    app = FastAPI()

    @app.get("/api/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.post(ROUTE)
    def extract(order: Order) -> dict[str, object]:
        return {"success": True, "extracted_image": plain_extract(order.image, order.mask)}

    return app


def plain_extract(image: str, mask: str) -> str:
    """Return the rule of the product, as Pillow spells it."""
    picture, marks = (Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in (image, mask))
    grey = marks.convert("L")
    box = grey.point(lambda value: 255 * (value > 128)).getbbox() or (0, 0, 1, 1)
    width, height = box[2] - box[0], box[3] - box[1]
    side = 512 if max(width, height) <= 512 else 1024
    scale = side / max(width, height)
    size = (int(width * scale), int(height * scale))
    square = Image.new("RGB", (side, side), "white")
    square.paste(
        picture.crop(box).resize(size, Image.Resampling.LANCZOS),
        ((side - size[0]) // 2, (side - size[1]) // 2),
        grey.crop(box).resize(size, Image.Resampling.LANCZOS),
    )
    buffer = io.BytesIO()
    square.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def plain_cpu_ms(bodies: list[bytes]) -> float:
    """Processor time for each body in this process, from JSON to JSON."""
    began = time.process_time()
    for body in bodies:
        order = json.loads(body)
        json.dumps({"extracted_image": plain_extract(order["image"], order["mask"])})
    return 1000 * (time.process_time() - began) / len(bodies)


# --- the measurements ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("extract")) as running:
        yield running


def orders(side_px: int, count: int) -> list[bytes]:
    """Bodies that neither store nor cache has seen, each with another result."""
    png = photo(side_px)
    return [
        json.dumps({"image": base64_of(distinct(png, number)), "mask": base64_of(mask(side_px, number))}).encode()
        for number in range(count)
    ]


async def extract_all(client: httpx.AsyncClient, bodies: list[bytes]) -> list[Image.Image]:
    """All at once; the pictures, which prove that it was done."""
    answers = await asyncio.gather(*(client.post(ROUTE, content=body) for body in bodies))
    assert {answer.status_code for answer in answers} == {200}
    return [Image.open(io.BytesIO(base64.b64decode(answer.json()["extracted_image"]))) for answer in answers]


@pytest.mark.parametrize("side_px", TARGET_CPU_MS)
async def test_extraction_costs_little(table: Table, stack: Stack, side_px: int) -> None:
    """Processor time of gateway, image utilities and broker for one request; the baseline lacks HTTP."""
    bodies = orders(side_px, REQUESTS + 1)
    working = {name: Cpu(stack.processes[name]) for name in ("gateway", "imageutils", "nats")}
    async with client_of(stack.url) as client:
        await extract_all(client, bodies[:1])  # imports, opens files
        with working["gateway"], working["imageutils"], working["nats"]:
            for body in bodies[1:]:
                (picture,) = await extract_all(client, [body])
                assert picture.size == (1024, 1024)

    spent_ms = {name: cpu.ms / REQUESTS for name, cpu in working.items()}
    plain_ms = plain_cpu_ms(bodies[1:])
    name = f"extract {side_px} px, CPU"
    table.row(name, sum(spent_ms.values()), "ms", target=TARGET_CPU_MS[side_px], baseline=plain_ms)
    for service, part_ms in spent_ms.items():
        table.row(f"  of it {service}", part_ms, "ms")


async def test_eight_at_once_use_all_cores(table: Table, stack: Stack) -> None:
    """How much faster eight are together than one after the other, and how long health takes meanwhile."""
    bodies = orders(1024, AT_ONCE)
    rest_ms = await probed_ms(port_of(stack.url), REST_S)
    ours, busy_ms = await eight_at_once(stack.url, bodies)
    with plain_server(f"{__name__}:plain_app") as (url, _):
        plain_rest_ms = await probed_ms(port_of(url), REST_S)
        plain, plain_busy_ms = await eight_at_once(url, bodies)

    cores = os.cpu_count() or 1
    table.row(
        f"extract eight at once, times faster on {cores} cores", ours, "x",
        target=0.75 * min(cores, AT_ONCE), baseline=plain, more_is_better=True,
    )  # fmt: skip
    table.row("  health meanwhile, p50", median(busy_ms), "ms", baseline=median(plain_busy_ms))
    table.row("  health meanwhile, max", max(busy_ms), "ms", target=HEALTH_TARGET_MS, baseline=max(plain_busy_ms))
    table.row("  health at rest, p50", median(rest_ms), "ms", baseline=median(plain_rest_ms))


async def eight_at_once(url: str, bodies: list[bytes]) -> tuple[float, list[float]]:
    """Return the speed-up, and the answering times of /api/health while eight are always at work."""
    async with client_of(url) as client:
        await extract_all(client, bodies)
        alone = [await took_s(client, [body]) for body in bodies]
        together = [await took_s(client, bodies) for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            probing = group.create_task(probed_ms(port_of(url), BUSY_S), name="probe")
            while not probing.done():
                await extract_all(client, bodies)
    return sum(alone) / median(together), probing.result()


async def took_s(client: httpx.AsyncClient, bodies: list[bytes]) -> float:
    began = time.perf_counter()
    await extract_all(client, bodies)
    return time.perf_counter() - began


def client_of(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, headers={"Content-Type": "application/json"})


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])
