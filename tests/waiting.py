"""Waiting in tests, with a deadline and an error text: the only place that may sleep."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from shared.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

_LOOK_EVERY_S = 0.01
SELDOM_S = 0.5  # for a check that starts a program: every 10 ms it would take a core from the program under test
TIMEOUT_S = 60.0  # only a failure takes so long; a loaded machine may take some of it, the lease of a job half


async def wait_until(
    predicate: Callable[[], object],
    description: str,
    timeout_s: float = TIMEOUT_S,
    *,
    look_every_s: float = _LOOK_EVERY_S,
) -> None:
    """Return once the predicate, plain or async, is truthy; a broker that does not answer is asked again.

    Fails with the description.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not await _answer(predicate):  # noqa: ASYNC110 (the predicate may depend on another process)
                await asyncio.sleep(look_every_s)
    except TimeoutError:
        raise AssertionError(f"Waited {timeout_s:g} s in vain until {description}.") from None


def stands_still(pid: int) -> bool:
    """Return whether every thread of a process has stopped. SIGSTOP returns before that, and a thread may still answer.

    Without /proc (macOS) the state of the process decides.
    """
    threads = list(Path(f"/proc/{pid}/task").glob("*/stat"))
    if not threads:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    try:
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)
    except FileNotFoundError:  # a thread has just ended
        return False


@contextlib.asynccontextmanager
async def frozen(pid: int) -> AsyncIterator[None]:
    """Keep a process stopped during the block, as on a machine that swaps; it begins when nothing runs any more."""
    process = psutil.Process(pid)
    process.suspend()
    try:
        await wait_until(lambda: stands_still(pid), f"process {pid} stands still")
        yield
    finally:
        process.resume()


def gone(pid: int) -> bool:
    """Return whether the process has ended; a zombie counts as ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


async def _answer(predicate: Callable[[], object]) -> object:
    answer: object | Awaitable[object] = predicate()
    with contextlib.suppress(BrokerUnavailable):
        return await answer if inspect.isawaitable(answer) else answer
    return False
