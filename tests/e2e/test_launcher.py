"""`python -m services` as a user runs it: start, killed processes, restarts, and a complete stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from services.stack.health import stack_is_healthy
from services.stack.stack import NICE
from tests.ports import free_port
from tests.waiting import gone, wait_until

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

PHOTO = Path(__file__).parents[2] / "services/gateway/static/samples/coffee.jpg"
READY_S = 60.0  # for a loaded machine; the benchmarks measure the real time
pytestmark = pytest.mark.timeout(300)


@asynccontextmanager
async def launch(data: Path, **variables: str) -> AsyncIterator[tuple[Process, int]]:
    """Run the launcher with these environment variables. Yields it and the port of the gateway once it is ready."""
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services", "--port", str(free_port()), "--data", str(data),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=os.environ | variables,
    )  # fmt: skip
    try:
        assert launcher.stdout is not None
        async with asyncio.timeout(READY_S):
            broker, ready = await launcher.stdout.readline(), await launcher.stdout.readline()
        assert broker.startswith(b"broker nats://127.0.0.1:")
        assert ready.startswith(b"ready http://127.0.0.1:")
        yield launcher, int(ready.rpartition(b":")[2])
    finally:
        if launcher.returncode is None:
            launcher.terminate()
        await launcher.communicate()


def is_replaced(stack: psutil.Process, victim: psutil.Process) -> bool:
    """Return whether another process replaced a killed one, which is no zombie either."""
    children = stack.children()
    return victim not in children and len(children) == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_everything_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0, and no process of the stack is left."""
    async with launch(tmp_path) as (launcher, _):
        family = psutil.Process(launcher.pid).children(recursive=True)
        launcher.send_signal(number)
        async with asyncio.timeout(READY_S):
            code = await launcher.wait()

        assert code == 0
        await wait_until(lambda: all(gone(process.pid) for process in family), "no process is left")


async def test_computing_services_have_a_lower_priority(tmp_path: Path) -> None:
    """The gateway, the job manager and the broker keep the priority of the launcher."""
    async with launch(tmp_path) as (launcher, _):
        stack = psutil.Process(launcher.pid)
        lower = {child.cmdline()[-1] for child in stack.children() if child.nice() == stack.nice() + NICE}

    assert lower == {"services.a100worker", "services.segmentation", "services.imageutils"}


async def test_every_killed_process_is_restarted(tmp_path: Path) -> None:
    """After each kill, of nats-server or a service, the stack becomes healthy again."""
    async with launch(tmp_path) as (launcher, port):
        stack = psutil.Process(launcher.pid)
        for victim in stack.children():
            victim.kill()
            await wait_until(partial(is_replaced, stack, victim), f"{victim.pid} has a successor", timeout_s=READY_S)
            await wait_until(
                lambda: stack_is_healthy("127.0.0.1", port), "the stack is healthy again", timeout_s=READY_S
            )

        assert launcher.returncode is None


async def test_a_stop_hands_back_the_running_job(tmp_path: Path) -> None:
    """It does so while the broker still runs; otherwise each stop would cost an attempt."""
    url = ""
    for stop in range(2):
        async with (
            launch(tmp_path, A100WORKER_BACKEND="scripted", STREAMS_LEASE_S="5") as (_, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            url = url or await submit(client)
            names = await event_names_until_started(client, url, times=stop + 1)
            assert names.count("returned") == stop


async def submit(client: httpx.AsyncClient) -> str:
    """Submit a job of five minutes. Return the path of its events."""
    image = (await client.post("/v1/images", content=PHOTO.read_bytes())).raise_for_status().json()["sha256"]
    script = json.dumps({"steps": 3000, "interval_ms": 100})
    job = await client.post("/v1/jobs", json={"task": "white-balance", "image": image, "prompt": script})
    return f"/v1/jobs/{job.raise_for_status().json()['id']}/events"


async def event_names_until_started(client: httpx.AsyncClient, url: str, times: int) -> list[str]:
    """Return the names of all events of a job until it was started this number of times."""
    names: list[str] = []
    async with asyncio.timeout(READY_S), client.stream("GET", url, timeout=READY_S) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            if names.count("started") == times:
                break
    return names
