"""The memory of the idle system, and the memory that the gateway keeps after requests."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from fastapi import FastAPI

from tests.benchmarks.measuring.meter import resident_mb
from tests.benchmarks.measuring.photos import base64_of, distinct, mask, photo
from tests.benchmarks.measuring.servers import plain_server, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.benchmarks.measuring.meter import Table

pytestmark = pytest.mark.timeout(600)
SIDE_PX = 1024
FEW, MANY, AT_ONCE = 100, 1000, 4
SETTLE_S = 2.0
TARGETS_MB = {"gateway": 75.0, "jobmanager": 60.0, "imageutils": None, "segmentation": None, "a100worker": None}
STACK_TARGET_MB = 600.0
GROWTH_TARGET = 1.10
# The smallest thing that can talk to the broker.
BARE_CLIENT = """
import asyncio, sys, nats
async def main():
    client = await nats.connect(sys.argv[1])
    print("connected", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def plain_app() -> FastAPI:
    """FastAPI with nothing to do."""
    app = FastAPI()

    @app.get("/api/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    return app


@pytest.fixture
def plain_mb() -> Iterator[float]:
    """Memory of a plain app at rest."""
    with plain_server(f"{__name__}:plain_app") as (_, server):
        yield resident_mb([server])


def bare_client_mb(broker: str) -> float:
    """Memory of a process that is connected to the broker, and does nothing."""
    command = [sys.executable, "-c", BARE_CLIENT, broker]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"connected\n"
        used_mb = resident_mb([psutil.Process(client.pid)])
        client.terminate()
    return used_mb


async def test_the_system_at_rest_is_small(table: Table, tmp_path: Path, plain_mb: float) -> None:
    """Each service beside a plain app or a bare client; the whole beside five plain apps and the broker."""
    with running_stack(tmp_path) as stack:
        await asyncio.sleep(SETTLE_S)
        used_mb = {name: resident_mb([process]) for name, process in stack.processes.items()}
        family_mb = resident_mb(stack.processes["launcher"].children(recursive=True)) + used_mb["launcher"]
        bare_mb = bare_client_mb(stack.broker)

    for name, target in TARGETS_MB.items():
        table.row(f"idle memory, {name}", used_mb[name], "MB", target=target,
                  baseline=plain_mb if name == "gateway" else bare_mb)  # fmt: skip
    table.row("idle memory, all processes", family_mb, "MB", target=STACK_TARGET_MB,
              baseline=5 * plain_mb + used_mb["nats"])  # fmt: skip


async def test_the_gateway_keeps_nothing(table: Table, tmp_path: Path) -> None:
    """After a thousand submits of new pictures it is as large as after the first hundred, which are the baseline."""
    room = {"STREAMS_PICTURE_BYTES": str(32 * 1024**3), "GATEWAY_QUEUE_LIMIT_PER_USER": "2000"}
    with running_stack(tmp_path, A100WORKER_BACKEND="scripted", **room) as stack:
        levels_mb = []
        for count, first in ((FEW, 0), (MANY - FEW, FEW)):
            await submit(stack.url, range(first, first + count))
            await asyncio.sleep(SETTLE_S)
            levels_mb.append(resident_mb(stack.of("gateway")))

    few_mb, many_mb = levels_mb
    table.row(f"gateway memory after {MANY} submits", many_mb, "MB", target=GROWTH_TARGET * few_mb, baseline=few_mb)


async def submit(url: str, numbers: range) -> None:
    """Submit a new picture and a new mask for each number, four at a time."""
    image, marks = photo(SIDE_PX), mask(SIDE_PX)
    left = iter(numbers)

    async def client_loop(client: httpx.AsyncClient) -> None:
        for number in left:
            answer = await client.post("/api/generate/async", content=order(distinct(image, number), marks, number))
            assert answer.status_code == 200, answer.text

    headers = {"Content-Type": "application/json"}
    new_client = httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, headers=headers)
    async with new_client as client, asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(client_loop(client), name=f"submit.{number}")


def order(image: bytes, marks: bytes, number: int) -> bytes:
    """Return an edit without steps."""
    return json.dumps(
        {
            "prompt": json.dumps({"steps": 0, "interval_ms": 0}),
            "input_image": base64_of(image),
            "mask_image": base64_of(distinct(marks, number)),
        }
    ).encode()
