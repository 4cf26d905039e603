"""Fills holes with PatchMatch in a child process, because a fill can only be cancelled by a kill."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from services.a100worker.backends.patchmatch import child as child_module
from shared.errors import EngineFailed, JobCancelled

if TYPE_CHECKING:
    from services.a100worker.cancel_flag import CancelFlag
    from shared.image_codec import Grey, Rgb


class Filler:
    """Owns the child process: starts it at the first fill, and again after a kill.

    Not thread-safe; only the cancel flag may be set from another thread.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def fill(self, image: Rgb, hole: Grey, avoid: Grey, seed: int, cancel_flag: CancelFlag) -> Rgb:
        """Return the image with the nonzero pixels of `hole` filled. Those of `avoid` are not copied and not filled.

        The same arguments give the same pixels. Raises JobCancelled as soon as the flag is set, and EngineFailed if
        the child dies.
        """
        child = self._start_child()
        output = b""
        with cancel_flag.on_set(child.kill), suppress(OSError):
            _send(child, image, hole, avoid, seed)
            output = cast("IO[bytes]", child.stdout).read(image.nbytes)
        if cancel_flag.is_set() or len(output) < image.nbytes:
            self.close()
        if cancel_flag.is_set():
            raise JobCancelled
        if len(output) < image.nbytes:
            raise EngineFailed("The process that fills holes died.")
        return np.frombuffer(output, np.uint8).reshape(image.shape)

    def close(self) -> None:
        """Kill the child, if there is one, and wait for its end. A later fill starts a new one."""
        if self._child is None:
            return
        self._child.kill()
        with suppress(OSError):  # closing flushes bytes that the child no longer reads
            self._child.__exit__(None, None, None)
        self._child.wait()
        self._child = None

    def _start_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self.close()  # it died while idle
        if self._child is None:
            self._child = subprocess.Popen(  # noqa: S603 (our interpreter, our file)
                [sys.executable, "-P", child_module.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        return self._child


def _send(child: subprocess.Popen[bytes], image: Rgb, hole: Grey, avoid: Grey, seed: int) -> None:
    stream = cast("IO[bytes]", child.stdin)
    stream.write(child_module.HEADER.pack(*hole.shape, seed))
    for array in (image, hole, avoid):
        stream.write(array.tobytes())
    stream.flush()
