"""Fills holes with PatchMatch in a child process, so that a cancel ends even a fill that cannot be interrupted."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from services.a100worker.backends.patchmatch import child as program
from shared.errors import EngineFailed, JobCancelled

if TYPE_CHECKING:
    from services.a100worker.cancel_flag import CancelFlag
    from shared.image_codec import Grey, Rgb


class Filler:
    """Owns the child process: starts it for the first fill and again after a kill; `close` leaves nothing behind.

    For one thread; only the flag may be set from another.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def fill(self, picture: Rgb, hole: Grey, avoid: Grey, seed: int, cancelled: CancelFlag) -> Rgb:
        """Return the picture with all that is not 0 in `hole` filled; what `avoid` marks is neither source nor filled.

        The same arguments give the same pixels. Raises JobCancelled at once when the flag is set, and EngineFailed
        when the child dies.
        """
        child = self._running()
        answer = b""
        with cancelled.on_set(child.kill), suppress(OSError):
            _send(child, picture, hole, avoid, seed)
            answer = cast("IO[bytes]", child.stdout).read(picture.nbytes)
        if cancelled.is_set() or len(answer) < picture.nbytes:
            self.close()
        if cancelled.is_set():
            raise JobCancelled
        if len(answer) < picture.nbytes:
            raise EngineFailed("The program that fills holes ended without an answer.")
        return np.frombuffer(answer, np.uint8).reshape(picture.shape)

    def close(self) -> None:
        """Kill the child and wait until it is gone; without a child, do nothing. A later fill starts a new one."""
        if self._child is None:
            return
        self._child.kill()
        with suppress(OSError):  # closing flushes what the child no longer reads
            self._child.__exit__(None, None, None)
        self._child.wait()
        self._child = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self.close()  # it died while idle
        if self._child is None:
            self._child = subprocess.Popen(  # noqa: S603 (our interpreter, our file)
                [sys.executable, "-P", program.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        return self._child


def _send(child: subprocess.Popen[bytes], picture: Rgb, hole: Grey, avoid: Grey, seed: int) -> None:
    stream = cast("IO[bytes]", child.stdin)
    stream.write(program.HEADER.pack(*hole.shape, seed))
    for array in (picture, hole, avoid):
        stream.write(array.tobytes())
    stream.flush()
