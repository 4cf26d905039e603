"""How old a progress event is when the client gets it, alone and among two hundred streams."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from tests.benchmarks.measuring.meter import Cpu
from tests.benchmarks.measuring.photos import base64_of, mask, photo
from tests.benchmarks.measuring.servers import Stack, plain_server, running_stack
from tests.benchmarks.measuring.watcher import open_watchers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.benchmarks.measuring.meter import Table

pytestmark = pytest.mark.timeout(300)
STREAM = "/api/generate/stream"
INTERVAL_MS = 200
STEPS = 40
MANY = 200
WORKERS = 4
TARGET_MS = 3.0


# --- the baseline: a stream that looks every 200 ms -------------------------------------------------------------


def polling_app() -> FastAPI:
    """One job that never ends; each stream looks at its state every 200 ms, and sends it when it has changed."""
    state = {"loading_message": ""}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(_work(state), name="work")
            yield
            working.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.get("/api/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.get(STREAM + "/{task_id}")
    async def stream(task_id: str) -> StreamingResponse:
        del task_id
        return StreamingResponse(_looks(state), media_type="text/event-stream")

    return app


async def _work(state: dict[str, str]) -> None:
    while True:
        await asyncio.sleep(1.05 * INTERVAL_MS / 1000)  # so that the distance to the looks varies
        state["loading_message"] = f"ts:{time.monotonic_ns()}"


async def _looks(state: dict[str, str]) -> AsyncIterator[str]:
    sent = None
    while True:
        now = json.dumps(state)
        if now != sent:
            sent = now
            yield f"data: {now}\n\n"
        await asyncio.sleep(INTERVAL_MS / 1000)


async def polled_ms(streams: int) -> list[float]:
    with plain_server(f"{__name__}:polling_app") as (url, _):
        watchers = await open_watchers(url, [f"{STREAM}/job"] * streams)
        since_ns = time.monotonic_ns()
        await asyncio.sleep(STEPS * INTERVAL_MS / 1000)
        for watcher in watchers:
            watcher.close()
            await watcher.ended.wait()
    return [age for watcher in watchers for age in watcher.ages_ms(since_ns)]


# --- the measurements ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("progress")
    with running_stack(folder, "--workers", str(WORKERS), A100WORKER_BACKEND="scripted") as running:
        yield running


@dataclass(frozen=True, slots=True)
class Watched:
    """The events that all streams together received."""

    ages_ms: list[float]
    frame_ms: float
    """Processor time of the gateway for each event that came out of it."""


async def jobs_at_work(stack: Stack, count: int) -> list[str]:
    """Submit scripted jobs, one a worker, each a step every 200 ms."""
    order = {
        "prompt": json.dumps({"steps": STEPS, "interval_ms": INTERVAL_MS}),
        "input_image": base64_of(photo(64)),
        "mask_image": base64_of(mask(64)),
    }
    async with httpx.AsyncClient(base_url=stack.url, trust_env=False) as client:
        answers = [await client.post("/api/generate/async", json=order) for _ in range(count)]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json()["task_id"] for answer in answers]


async def watch_streams(
    stack: Stack, jobs: list[str], streams: int, begin: Callable[[], None] = lambda: None
) -> Watched:
    """Watch the jobs, each in as many streams, until they end; `begin` is called when all streams are open."""
    watchers = await open_watchers(stack.url, [f"{STREAM}/{jobs[number % len(jobs)]}" for number in range(streams)])
    since_ns = time.monotonic_ns()
    with Cpu(stack.processes["gateway"]) as cpu:
        begin()
        for watcher in watchers:
            await watcher.ended.wait()
    ages = [age for watcher in watchers for age in watcher.ages_ms(since_ns)]
    assert len(ages) > 0.5 * STEPS * streams
    return Watched(ages, cpu.ms / len(ages))


@asynccontextmanager
async def crew(stack: Stack) -> AsyncIterator[tuple[list[str], Callable[[], None]]]:
    """Yield two hundred jobs, and the function that starts their events."""
    command = ["-m", "tests.benchmarks.measuring.crew", stack.broker, str(MANY), str(STEPS), str(INTERVAL_MS / 1000)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=pipe, stdout=pipe, limit=2**20)
    entrance, announced = process.stdin, process.stdout
    assert entrance is not None
    assert announced is not None
    yield (await announced.readline()).decode().split(), lambda: entrance.write(b"go\n")
    await process.communicate()


def report(table: Table, name: str, ours: Watched, plain_ms: list[float]) -> None:
    table.row(f"progress, {name}, p50", median(ours.ages_ms), "ms", target=TARGET_MS, baseline=median(plain_ms))
    table.row("  p99", quantiles(ours.ages_ms, n=100)[98], "ms", baseline=quantiles(plain_ms, n=100)[98])


async def test_one_stream_is_told_at_once(table: Table, stack: Stack) -> None:
    """Measure the time from the engine's thread in the worker to the client's socket."""
    ours = await watch_streams(stack, await jobs_at_work(stack, 1), 1)

    report(table, "1 stream", ours, await polled_ms(1))


async def test_two_hundred_streams_are_told_at_once(table: Table, stack: Stack) -> None:
    """Fifty watch each of four jobs, so each event goes out fifty times; then each watches a job of its own."""
    plain_ms = await polled_ms(MANY)
    shared = await watch_streams(stack, await jobs_at_work(stack, WORKERS), MANY)
    async with crew(stack) as (jobs, begin):
        own = await watch_streams(stack, jobs, MANY, begin)

    for jobs_watched, ours in ((WORKERS, shared), (MANY, own)):
        report(table, f"{MANY} streams on {jobs_watched} jobs", ours, plain_ms)
        table.row("  gateway CPU for each event sent", ours.frame_ms, "ms")
