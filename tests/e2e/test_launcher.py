"""`python -m services` as a user runs it: ready, wounded, healed, and gone without a trace."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import psutil
import pytest

from services.devstack import NICE
from services.probes import stack_is_healthy
from tests.waiting import gone, wait_until

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

READY_S = 60.0  # a loaded machine; the benchmarks hold the real figure
pytestmark = pytest.mark.timeout(300)


@asynccontextmanager
async def launched(data: Path) -> AsyncIterator[tuple[Process, int]]:
    """The launcher once it has printed its two lines, and the port of the gateway."""
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services", "--port", "0", "--data", str(data),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
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


def succeeded(stack: psutil.Process, victim: psutil.Process) -> bool:
    """Whether another process has the place of one that was killed, and nobody waits for its funeral."""
    children = stack.children()
    return victim not in children and len(children) == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_everything_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0 by itself, and no process of the stack is left."""
    async with launched(tmp_path) as (launcher, _):
        family = psutil.Process(launcher.pid).children(recursive=True)
        launcher.send_signal(number)
        async with asyncio.timeout(READY_S):
            code = await launcher.wait()

        assert code == 0
        await wait_until(lambda: all(gone(process.pid) for process in family), "no process is left")


async def test_those_that_compute_step_back_for_those_that_answer(tmp_path: Path) -> None:
    """The gateway, the job manager and the broker keep the launcher's priority."""
    async with launched(tmp_path) as (launcher, _):
        stack = psutil.Process(launcher.pid)
        lower = {child.cmdline()[-1] for child in stack.children() if child.nice() == stack.nice() + NICE}

    assert lower == {"services.a100worker", "services.segmentation", "services.imageutils"}


async def test_every_part_that_is_killed_comes_back(tmp_path: Path) -> None:
    """nats-server and each service die in turn; the stack is healthy again without help."""
    async with launched(tmp_path) as (launcher, port):
        stack = psutil.Process(launcher.pid)
        for victim in stack.children():
            victim.kill()
            await wait_until(partial(succeeded, stack, victim), f"{victim.pid} has a successor", timeout_s=READY_S)
            await wait_until(lambda: stack_is_healthy("127.0.0.1", port), "all is well again", timeout_s=READY_S)

        assert launcher.returncode is None
