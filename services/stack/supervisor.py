"""Restarts a process whenever it ends, after a pause that doubles up to ten seconds."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

from shared.errors import EXIT_CONFIG, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
STEADY_S = 30.0  # if a process ran this long, the next pause is the shortest one again


class Startable(Protocol):
    """The interface of a restartable child: a Process or a NatsServer."""

    async def start(self) -> None:
        """Start the child and return once it serves. Raises ConfigError or OSError."""

    async def wait(self) -> int:
        """Wait for the child's end and return its exit code."""

    def terminate(self) -> None:
        """Request the child's end."""


class Supervisor:
    """Runs one process until `stop`. The events `up` and `ended` can be awaited."""

    def __init__(self, process: Startable, *, report: Callable[[str], None], give_up: Callable[[str], None]) -> None:
        """`report` gets a phrase on each exit. `give_up` gets one if another start cannot help."""
        self._process = process
        self._report = report
        self._give_up = give_up
        self._stop = asyncio.Event()
        self.up = asyncio.Event()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Start the process, wait for its end and start it again; return after `stop` once it has ended."""
        now = asyncio.get_running_loop().time
        pause = FIRST_PAUSE_S
        while not self._stop.is_set():
            began = now()
            outcome = await self._run_once()
            if self._stop.is_set():
                break
            if now() - began >= STEADY_S:
                pause = FIRST_PAUSE_S
            self._report(f"{outcome}; restarting in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        self.ended.set()

    def stop(self) -> None:
        """Request the end of the process, and do not start it again."""
        self._stop.set()
        self._process.terminate()

    async def _run_once(self) -> str:
        """Start the process and wait for its end. Return a phrase that describes the outcome."""
        try:
            await self._process.start()
        except (ConfigError, OSError) as error:
            if not self.up.is_set():
                self._end(f"did not start: {error}")
            return f"did not start ({error})"
        self.up.set()
        if self._stop.is_set():
            self._process.terminate()  # `stop` came before the process existed
        code = await self._process.wait()
        if code == EXIT_CONFIG:  # another start cannot help
            self._end("ended because a setting is wrong")
        return f"ended with code {code}"

    def _end(self, reason: str) -> None:
        self._stop.set()
        self._give_up(reason)
