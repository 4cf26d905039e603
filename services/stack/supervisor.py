"""Keeps one program running: each death is followed by a start, after a pause that doubles up to ten seconds."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

from shared.errors import EXIT_CONFIG, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
STEADY_S = 30.0  # a program that lived so long did not die of its start


class Startable(Protocol):
    """What can be kept running: a Process, a NatsServer."""

    async def start(self) -> None:
        """Return once it serves. Raises ConfigError or OSError."""

    async def wait(self) -> int:
        """Return its exit code once it has ended."""

    def terminate(self) -> None:
        """Ask it to end."""


class Supervisor:
    """Keeps one program running until it is told to stop; `up` and `ended` are events to wait for."""

    def __init__(self, program: Startable, *, report: Callable[[str], None], give_up: Callable[[str], None]) -> None:
        """`report` gets a phrase on each death; `give_up` gets one where starting again cannot help."""
        self._program = program
        self._report = report
        self._give_up = give_up
        self._stop = asyncio.Event()
        self.up = asyncio.Event()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Start, wait, start again; returns after `stop`, when the program has ended."""
        now = asyncio.get_running_loop().time
        pause = FIRST_PAUSE_S
        while not self._stop.is_set():
            began = now()
            death = await self._live()
            if self._stop.is_set():
                break
            if now() - began >= STEADY_S:
                pause = FIRST_PAUSE_S
            self._report(f"{death}, starts again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        self.ended.set()

    def stop(self) -> None:
        """Ask the program to end, and do not start it again."""
        self._stop.set()
        self._program.terminate()

    async def _live(self) -> str:
        """Start it and wait for its end; returns how it went."""
        try:
            await self._program.start()
        except (ConfigError, OSError) as error:
            if not self.up.is_set():
                self._end_for_good(f"did not start: {error}")
            return f"did not start ({error})"
        self.up.set()
        if self._stop.is_set():
            self._program.terminate()  # `stop` came before there was a process to tell
        code = await self._program.wait()
        if code == EXIT_CONFIG:  # starting again cannot help
            self._end_for_good("ended because a setting is wrong")
        return f"ended with code {code}"

    def _end_for_good(self, why: str) -> None:
        self._stop.set()
        self._give_up(why)
