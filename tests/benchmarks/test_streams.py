"""The cost of an open event stream for the gateway, and ten thousand of them with an event a second each."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from contextlib import asynccontextmanager
from itertools import count
from statistics import median, quantiles
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI
from sse_starlette import EventSourceResponse

from tests.benchmarks.measuring.meter import Cpu, resident_mb
from tests.benchmarks.measuring.servers import Stack, plain_server, running_stack
from tests.benchmarks.measuring.watcher import open_watchers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.types import Receive, Scope, Send

    from tests.benchmarks.measuring.meter import Table
    from tests.benchmarks.measuring.watcher import Watcher

pytestmark = pytest.mark.timeout(600)
STREAM = "/api/generate/stream"
FEW = 2_000
MANY = int(os.environ.get("BENCH_STREAMS", "10000"))
JOBS, STEPS = 200, 12
INTERVAL_S = 1.0
TARGET_KB, TARGET_P99_MS = 20.0, 1000.0


# --- the baselines: a stream that says nothing, bare and by the library -----------------------------------------


def bare_app() -> Callable[[Scope, Receive, Send], object]:
    """Send the head of a stream and wait for the disconnect."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    return app


def ticking_app() -> Callable[[Scope, Receive, Send], object]:
    """Send an event a second on each stream, evenly out of step, from a request to /go on; no broker, no states."""
    begun, starts = asyncio.Event(), count()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        if scope["path"].startswith(STREAM):
            await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
            await begun.wait()
            due_s = time.monotonic() + INTERVAL_S * (next(starts) % JOBS) / JOBS
            for _ in range(STEPS):
                due_s += INTERVAL_S
                await asyncio.sleep(due_s - time.monotonic())
                frame = b"data: ts:%d\n\n" % (due_s * 1e9)
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        elif scope["path"] == "/go":
            begun.set()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


def library_app() -> FastAPI:
    """FastAPI and sse-starlette."""
    app = FastAPI()

    @app.get("/api/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.get(STREAM + "/{task_id}")
    async def stream(task_id: str) -> EventSourceResponse:
        return EventSourceResponse(_silence(task_id))

    return app


async def _silence(task_id: str) -> AsyncIterator[str]:
    yield task_id
    await asyncio.Event().wait()


# --- the measurements ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Provide a system that accepts as many streams as asked for."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    limits = {"GATEWAY_STREAMS_AT_ONCE": "100000", "LOG_LEVEL": "WARNING"}
    with running_stack(tmp_path_factory.mktemp("streams"), A100WORKER_BACKEND="scripted", **limits) as running:
        yield running


@asynccontextmanager
async def crew(stack: Stack, steps: int) -> AsyncIterator[tuple[list[str], Callable[[], None]]]:
    """Yield jobs by hand, and the function that starts their events."""
    command = ["-m", "tests.benchmarks.measuring.crew", stack.broker, str(JOBS), str(steps), str(INTERVAL_S)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=pipe, stdout=pipe, limit=2**20)
    assert process.stdin is not None
    assert process.stdout is not None
    entrance = process.stdin
    yield (await process.stdout.readline()).decode().split(), lambda: entrance.write(b"go\n")
    await process.communicate()


async def open_many(url: str, jobs: list[str], streams: int) -> list[Watcher]:
    return await open_watchers(url, [f"{STREAM}/{jobs[number % len(jobs)]}" for number in range(streams)])


async def close(watchers: list[Watcher]) -> None:
    for watcher in watchers:
        watcher.close()
        await watcher.ended.wait()


async def cost_kb(app: str) -> float:
    """Return the memory of a stream of a plain server."""
    with plain_server(f"{__name__}:{app}") as (url, server):
        await close(await open_many(url, ["x"], 50))
        before_mb = resident_mb([server])
        watchers = await open_many(url, ["x"], FEW)
        after_mb = resident_mb([server])
        await close(watchers)
    return (after_mb - before_mb) * 1000 / FEW


async def bare_ages_ms() -> tuple[list[float], float]:
    """Return the ages of the events of as many streams of the plain server, and its CPU time in milliseconds."""
    with plain_server(f"{__name__}:ticking_app") as (url, server):
        watchers = await open_many(url, ["x"], MANY)
        since_ns = time.monotonic_ns()
        with Cpu(server) as cpu:
            async with httpx.AsyncClient(base_url=url) as client:
                (await client.get("/go")).raise_for_status()
            for watcher in watchers:
                await watcher.ended.wait()
    return [age for watcher in watchers for age in watcher.ages_ms(since_ns)], cpu.ms


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


async def test_an_open_stream_costs_little(table: Table, stack: Stack) -> None:
    """Resident memory of the gateway for each of two thousand open streams, with an event each."""
    bare_kb, library_kb = await cost_kb("bare_app"), await cost_kb("library_app")
    gateway = stack.of("gateway")
    async with crew(stack, 0) as (jobs, begin):
        await close(await open_many(stack.url, jobs, 50))
        before_mb = resident_mb(gateway)
        watchers = await open_many(stack.url, jobs, FEW)
        after_mb = resident_mb(gateway)
        begin()
        for watcher in watchers:
            await watcher.ended.wait()

    ours_kb = (after_mb - before_mb) * 1000 / FEW
    table.row("memory of an open stream", ours_kb, "kB", target=TARGET_KB, baseline=library_kb)
    table.row("  a bare connection", bare_kb, "kB")


async def test_ten_thousand_streams_are_told_within_a_second(table: Table, stack: Stack) -> None:
    """Each has an event a second; each job's event goes to fifty streams. The baseline is uvicorn alone."""
    bare_ms, bare_cpu_ms = await bare_ages_ms()
    async with crew(stack, STEPS) as (jobs, begin):
        began = time.monotonic()
        watchers = await open_many(stack.url, jobs, MANY)
        opened_s = time.monotonic() - began
        memory_mb = resident_mb(stack.of("gateway"))
        since_ns = time.monotonic_ns()
        with Cpu(stack.processes["gateway"]) as cpu:
            begin()
            for watcher in watchers:
                await watcher.ended.wait()
    ages = [age for watcher in watchers for age in watcher.ages_ms(since_ns)]
    assert len(ages) > 0.5 * STEPS * MANY

    table.row(f"{MANY} streams, an event a second, p50", median(ages), "ms", baseline=median(bare_ms))
    table.row("  p99", _p99(ages), "ms", target=TARGET_P99_MS, baseline=_p99(bare_ms))
    table.row("  gateway CPU for each event sent", cpu.ms / len(ages), "ms", baseline=bare_cpu_ms / len(bare_ms))
    table.row("  seconds until all were open", opened_s, "s")
    table.row("  gateway memory", memory_mb, "MB")
