"""Child processes in one process group that dies with this process. Their output arrives line by line."""

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
# Reads until the other end of the pipe closes, even if this process is killed. Then kills its whole group.
_GUARD = 'trap "" HUP INT TERM; read -r _; kill -9 0'
_LONGEST_LINE_BYTES = 64 * 1024
_LAST_OUTPUT_S = 0.2


class ProcessGroup:
    """The process group of all children. Its remaining processes die when it closes or when this process is killed.

    Ctrl-C in a terminal does not reach the group, so its owner can stop the children in an order of its own.
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
        """Replace the guard process whenever it ends. Runs until cancelled."""
        while True:
            await self._guard.wait()
            self._guard = await self._start_guard(self.id)

    def kill(self) -> None:
        """Kill all processes of the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.id, signal.SIGKILL)

    async def _start_guard(self, group: int) -> Subprocess:
        silent = asyncio.subprocess.DEVNULL
        return await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", _GUARD, stdin=self._read_end, stdout=silent, stderr=silent, process_group=group
        )


class Process:
    """One child process without input. It can be started again after it has ended."""

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
        self._child: Subprocess | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while the process does not run."""
        return self._child.pid if self._child is not None and self._child.returncode is None else None

    async def start(self) -> None:
        """Start the process. Raises OSError."""
        # With asyncio's own pipes `wait` would last until every grandchild that inherited them has ended.
        read_end, write_end = os.pipe()
        reader = os.fdopen(read_end, "rb", buffering=0)
        try:
            self._child = await asyncio.create_subprocess_exec(
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
        """Return the exit code (negative: the signal that ended it), after `on_line` got the last line."""
        if self._child is None:
            raise RuntimeError("wait() before start()")
        code = await self._child.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._output.ended.wait(), _LAST_OUTPUT_S)  # a grandchild may hold the pipe open
        self._pipe.close()
        await self._output.ended.wait()
        return code

    def terminate(self) -> None:
        """Send SIGTERM, if the process runs."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, if the process runs."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)


class _Lines(asyncio.Protocol):
    """Splits the output of a process into lines."""

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
