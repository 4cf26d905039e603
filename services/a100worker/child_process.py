"""A child process that answers one request at a time, because native code can only be cancelled by a kill."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, cast

from shared.errors import EngineFailed, JobCancelled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.a100worker.cancel_flag import CancelFlag


class ChildProcess:
    """Runs one of our scripts: starts it at the first request, and again after a kill.

    The script reads requests from stdin, writes answers to stdout, and ends when its stdin ends. Not thread-safe; only
    the cancel flag may be set from another thread.
    """

    def __init__(self, script: str, *arguments: str) -> None:
        self._command = [sys.executable, "-P", script, *arguments]
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, request: Iterable[bytes], answer_bytes: int, cancel_flag: CancelFlag) -> bytes:
        """Send the parts of a request and return the answer, which has this many bytes.

        Raises JobCancelled as soon as the flag is set, and EngineFailed if the child dies.
        """
        child = self._start()
        answer = b""
        with cancel_flag.on_set(child.kill), suppress(OSError):
            stream = cast("IO[bytes]", child.stdin)
            for part in request:
                stream.write(part)
            stream.flush()
            answer = cast("IO[bytes]", child.stdout).read(answer_bytes)
        if cancel_flag.is_set() or len(answer) < answer_bytes:
            self.close()
        if cancel_flag.is_set():
            raise JobCancelled
        if len(answer) < answer_bytes:
            raise EngineFailed("The process that fills holes died.")
        return answer

    def close(self) -> None:
        """Kill the child, if there is one, and wait for its end. A later request starts a new one."""
        if self._child is None:
            return
        self._child.kill()
        with suppress(OSError):  # closing flushes the buffer, which fails if the child no longer reads
            self._child.__exit__(None, None, None)
        self._child.wait()
        self._child = None

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self.close()  # it died while idle
        if self._child is None:
            self._child = subprocess.Popen(  # noqa: S603 (our interpreter, our file)
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        return self._child
