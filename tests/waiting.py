"""Waiting in tests, with a deadline and a sentence: the one place that may sleep."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import TYPE_CHECKING

import psutil

from shared.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LOOK_EVERY_S = 0.01
PATIENCE_S = 60.0  # only a failure takes so long; a loaded machine may take some of it, the lease of a job half


async def wait_until(predicate: Callable[[], object], description: str, timeout_s: float = PATIENCE_S) -> None:
    """Return once the predicate, plain or async, is truthy; a broker that does not answer is asked again.

    Fails with the description.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not await _answer(predicate):  # noqa: ASYNC110 (what is waited for may be outside of this process)
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        raise AssertionError(f"Waited {timeout_s:g} s in vain until {description}.") from None


def gone(pid: int) -> bool:
    """Whether the process has ended; a dead one that nobody has collected yet counts as gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


async def _answer(predicate: Callable[[], object]) -> object:
    answer: object | Awaitable[object] = predicate()
    with contextlib.suppress(BrokerUnavailable):
        return await answer if inspect.isawaitable(answer) else answer
    return False
