"""Child processes: started in one guarded group, watched without polling, their output handed on line by line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio.subprocess import Process as Subprocess
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

ROOT = Path(__file__).resolve().parents[2]
# Reads until the other end of the pipe is gone, then takes the whole group with it, itself included.
_GUARD = 'trap "" HUP INT TERM; read -r _; kill -9 0'
_LONGEST_LINE_BYTES = 64 * 1024
_LAST_WORDS_S = 0.2


class ProcessGroup:
    """The process group of all children: what is left in it dies when this closes, or when this process is killed.

    Ctrl-C in a terminal does not reach the group, so the children stop in the order that their owner chooses.
    """

    id: int

    async def __aenter__(self) -> Self:
        self._read_end, self._leash = os.pipe()
        self._guard = await self._start_guard(0)
        self.id = self._guard.pid
        return self

    async def __aexit__(self, *_: object) -> None:
        os.close(self._leash)
        await self._guard.wait()
        os.close(self._read_end)

    async def keep_guard(self) -> None:
        """Replace the guard whenever somebody kills it; never returns."""
        while True:
            await self._guard.wait()
            self._guard = await self._start_guard(self.id)

    def kill(self) -> None:
        """End everything in the group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.id, signal.SIGKILL)

    async def _start_guard(self, group: int) -> Subprocess:
        silent = asyncio.subprocess.DEVNULL
        return await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", _GUARD, stdin=self._read_end, stdout=silent, stderr=silent, process_group=group
        )


class Process:
    """One program, which may be started again after it ended. Not for programs that read their input."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        group: ProcessGroup,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        on_line: Callable[[str], None],
        on_output_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`env` adds to the environment; `on_line` gets each line of output, `on_output_end` follows the last."""
        self.name = name
        self._argv = argv
        self._group = group
        self._cwd = cwd
        self._env = {**os.environ, **(env or {})}
        self._on_line = on_line
        self._on_output_end = on_output_end
        self._process: Subprocess | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it. Raises OSError."""
        # asyncio's own pipes would make `wait` last until every grandchild that inherited them has ended.
        read_end, write_end = os.pipe()
        reader = os.fdopen(read_end, "rb", buffering=0)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env=self._env,
                cwd=self._cwd,
                process_group=self._group.id,
            )
        except BaseException:
            reader.close()
            raise
        finally:
            os.close(write_end)
        self._output = _Lines(self._on_line, self._on_output_end)
        self._pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: self._output, reader)

    async def wait(self) -> int:
        """Return the exit code (negative: the signal that ended it) after the last line has been handed on."""
        if self._process is None:
            raise RuntimeError("wait() before start()")
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._output.ended.wait(), _LAST_WORDS_S)  # a grandchild may hold the pipe open
        self._pipe.close()
        await self._output.ended.wait()
        return code

    def terminate(self) -> None:
        """Ask it to end with SIGTERM; nothing happens when it does not run."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL; nothing happens when it does not run."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


class _Lines(asyncio.Protocol):
    """Cuts the output of a program into lines."""

    def __init__(self, on_line: Callable[[str], None], on_output_end: Callable[[], None]) -> None:
        self._on_line = on_line
        self._on_output_end = on_output_end
        self._rest = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._on_line(line.decode(errors="replace").rstrip("\r"))

    def connection_lost(self, _error: Exception | None) -> None:
        if self._rest:
            self._on_line(self._rest.decode(errors="replace"))
        self._on_output_end()
        self.ended.set()
