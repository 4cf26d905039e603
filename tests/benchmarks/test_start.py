"""How long a start takes: the gateway until it answers, the whole system until it is ready."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.measuring.servers import HOST, await_answer, running_stack, uvicorn
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.measuring.meter import Table

pytestmark = pytest.mark.timeout(300)
GATEWAY = [sys.executable, "-m", "services.gateway"]
RUNS, STACK_RUNS = 7, 3
GATEWAY_TARGET_S, STACK_TARGET_S = 0.35, 4.0
# A file of its own, so that nothing but FastAPI is imported.
HELLO = """
from fastapi import FastAPI
app = FastAPI()
@app.get("/api/health")
async def health():
    return {"status": "healthy"}
"""


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """Return the folder of the baseline: the smallest FastAPI app there is."""
    (tmp_path / "hello.py").write_text(HELLO)
    return tmp_path


def first_answer_s(command: list[str], port: int, path: str, folder: Path | None = None, **environment: str) -> float:
    """Return the time from the start of a process to its first 200."""
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=folder, env=os.environ | environment, stdout=quiet, stderr=quiet) as process:
        try:
            await_answer(port, path)
            return time.perf_counter() - began
        finally:
            process.terminate()


def gateway_s(nats_url: str, path: str = "/api/health") -> float:
    port = free_port()
    return first_answer_s(GATEWAY, port, path, GATEWAY_PORT=str(port), NATS_URL=nats_url)


def hello_s(folder: Path) -> float:
    port = free_port()
    return first_answer_s(uvicorn("hello:app", port), port, "/api/health", folder)


def test_the_gateway_answers_soon_after_its_start(table: Table, nats_url: str, hello: Path) -> None:
    """With and without a broker; a routed answer needs FastAPI, which is still being imported at the first one."""
    nobody = f"nats://{HOST}:{free_port()}"
    gateway_s(nats_url)  # writes byte code, declares the streams
    runs = [(gateway_s(nats_url), gateway_s(nobody), gateway_s(nats_url, "/api"), hello_s(hello)) for _ in range(RUNS)]

    up, down, routed, plain = zip(*runs, strict=True)
    for name, times in (("broker up", up), ("broker down", down)):
        for word, figure in (("median", median), ("min", min)):
            table.row(
                f"gateway start to 200 on health, {name}, {word}", figure(times), "s",
                target=GATEWAY_TARGET_S, baseline=figure(plain),
            )  # fmt: skip
    table.row("gateway start to 200 on a route, median", median(routed), "s", baseline=median(plain))


def test_the_whole_system_is_ready_soon_after_its_start(
    table: Table, tmp_path_factory: pytest.TempPathFactory, hello: Path
) -> None:
    """Seven processes on an empty data folder; the baseline is five FastAPI apps that start side by side."""
    ours, plain = [], []
    for _ in range(STACK_RUNS):
        began = time.perf_counter()
        with running_stack(tmp_path_factory.mktemp("stack")) as stack:
            ours.append(time.perf_counter() - began)
        assert len(stack.processes) == 8
        plain.append(five_s(hello))

    table.row("whole system start to ready, median", median(ours), "s", target=STACK_TARGET_S, baseline=median(plain))
    table.row("whole system start to ready, min", min(ours), "s", target=STACK_TARGET_S, baseline=min(plain))


def five_s(folder: Path) -> float:
    """Until all of five plain apps answer."""
    began = time.perf_counter()
    ports = [free_port() for _ in range(5)]
    with ExitStack() as running:
        for port in ports:
            app = running.enter_context(subprocess.Popen(uvicorn("hello:app", port), cwd=folder))
            running.callback(app.terminate)
        for port in ports:
            await_answer(port, "/api/health")
        return time.perf_counter() - began
