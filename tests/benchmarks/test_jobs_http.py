"""Edits over HTTP: the cost of a submit and of a result for the gateway, which all users share."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI, Response
from PIL import Image
from pydantic import BaseModel

from tests.benchmarks.measuring.meter import Cpu
from tests.benchmarks.measuring.photos import base64_of, distinct, mask, photo
from tests.benchmarks.measuring.servers import Stack, plain_server, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

    from tests.benchmarks.measuring.meter import Table

pytestmark = pytest.mark.timeout(300)
SUBMIT, RESULT, PICTURE = "/api/generate/async", "/api/generate/result", "/api/generate/result-image"
SIDE_PX = 1024
SUBMITS = 40
TARGETS_MS = (20.0, 2.0, 2.0)


# --- the baseline -------------------------------------------------------------------------------------------------


class Order(BaseModel):
    """As much of it as the baseline reads."""

    input_image: str
    conditional_images: list[str]


def plain_app() -> FastAPI:
    """Answer the same bodies from memory: decode both images, store nothing."""
    app = FastAPI()
    pictures: list[bytes] = []

    @app.get("/api/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.post(SUBMIT)
    def submit(order: Order) -> dict[str, str]:
        image, marks = (base64.b64decode(text) for text in (order.input_image, order.conditional_images[0]))
        for data in (image, marks):
            Image.open(io.BytesIO(data)).load()
        pictures.append(image)
        return {"task_id": str(len(pictures) - 1)}

    @app.get(RESULT + "/{task_id}")
    async def result(task_id: int) -> dict[str, int]:
        return {"task_id": task_id}

    @app.get(PICTURE + "/{task_id}")
    async def picture(task_id: int) -> Response:
        return Response(pictures[task_id], media_type="image/png")

    return app


# --- the measurements ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("jobs"), A100WORKER_BACKEND="scripted") as running:
        yield running


@pytest.fixture(scope="module")
def orders() -> list[bytes]:
    """Bodies as the web client sends them, the mask twice; no store has seen their pictures."""
    image, marks = photo(SIDE_PX), mask(SIDE_PX)
    return [order(distinct(image, number), distinct(marks, number), number) for number in range(SUBMITS)]


def order(image: bytes, marks: bytes, seed: int) -> bytes:
    text = base64_of(marks)
    return json.dumps(
        {
            "task_type": "removal",
            "prompt": json.dumps({"steps": 0, "interval_ms": 0}),
            "input_image": base64_of(image),
            "conditional_images": [text],
            "mask_image": text,
            "num_inference_steps": 15,
            "seed": seed,  # the engine paints its colour, so each result is another picture
        }
    ).encode()


async def submit_orders(client: httpx.AsyncClient, orders: list[bytes]) -> list[str]:
    """One after the other; the ids of the jobs."""
    answers = [await client.post(SUBMIT, content=order) for order in orders]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json()["task_id"] for answer in answers]


async def wait_for_ends(client: httpx.AsyncClient, jobs: list[str]) -> None:
    """Wait for all of them, as a client does before it fetches the picture."""
    for job in jobs:
        assert (await client.get(f"{RESULT}/{job}")).status_code == 200


async def fetch(client: httpx.AsyncClient, jobs: list[str]) -> None:
    """Fetch the picture of each job."""
    for job in jobs:
        answer = await client.get(f"{PICTURE}/{job}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert Image.open(io.BytesIO(answer.content)).size == (SIDE_PX, SIDE_PX)


async def costs_ms(url: str, server: psutil.Process, orders: list[bytes]) -> list[float]:
    """Processor time of one submit, of a picture that is fetched for the first time, and of one fetched again."""
    headers = {"Content-Type": "application/json"}
    submitting, fetching, again = Cpu(server), Cpu(server), Cpu(server)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, headers=headers) as client:
        warm = await submit_orders(client, [order(distinct(photo(SIDE_PX), SUBMITS), mask(SIDE_PX), SUBMITS)])
        await wait_for_ends(client, warm)
        await fetch(client, warm)
        with submitting:
            jobs = await submit_orders(client, orders)
        await wait_for_ends(client, jobs)
        with fetching:
            await fetch(client, jobs)
        with again:
            for _ in jobs:
                await fetch(client, jobs[-1:])
    return [cpu.ms / len(jobs) for cpu in (submitting, fetching, again)]


async def test_jobs_cost_the_gateway_little(table: Table, stack: Stack, orders: list[bytes]) -> None:
    """A submit with a new picture and a new mask, and a result as the worker encoded it."""
    ours = await costs_ms(stack.url, stack.processes["gateway"], orders)
    with plain_server(f"{__name__}:plain_app") as (url, server):
        plain = await costs_ms(url, server, orders)

    names = f"submit {SIDE_PX} px and mask, gateway CPU", "result image, gateway CPU", "  the same one again"
    for name, cost_ms, target_ms, plain_ms in zip(names, ours, TARGETS_MS, plain, strict=True):
        table.row(name, cost_ms, "ms", target=target_ms, baseline=plain_ms)
