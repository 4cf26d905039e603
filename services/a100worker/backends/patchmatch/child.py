"""The program that fills holes with PatchMatch, in a process of its own because its one long call can only be killed.

It speaks on its standard streams: HEADER (height, width, seed), picture, hole and avoid come in, the picture goes out.
It is started by its path and must not import from this project.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER = struct.Struct("<IIQ")
_PATCH_RADIUS_PX = 3  # the best of 3, 5 and 15 by measure and by eye: larger patches repeat themselves


def main() -> None:
    """Serve until the other side closes the stream or dies, even in the middle of a fill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; who started us decides
    threading.excepthook = _end
    # PatchMatch lets go of the interpreter lock, so this thread sees the end of the stream at any time.
    while header := sys.stdin.buffer.read(HEADER.size):
        height, width, seed = HEADER.unpack(header)
        body = sys.stdin.buffer.read(height * width * 5)
        threading.Thread(target=_answer, args=(body, height, width, seed), daemon=True).start()
    os._exit(0)


def _end(failure: threading.ExceptHookArgs) -> None:
    """Show the failure and end the process: the other side sees its stream close."""
    threading.__excepthook__(failure)
    os._exit(1)


def _answer(body: bytes, height: int, width: int, seed: int) -> None:
    area = height * width
    flat = np.frombuffer(body, np.uint8)
    picture = flat[: area * 3].reshape(height, width, 3)
    hole, avoid = flat[area * 3 :].reshape(2, height, width)
    sys.stdout.buffer.write(_filled(picture, hole, avoid, seed).tobytes())
    sys.stdout.buffer.flush()


def _filled(
    picture: NDArray[np.uint8], hole: NDArray[np.uint8], avoid: NDArray[np.uint8], seed: int
) -> NDArray[np.uint8]:
    import patchmatch  # noqa: PLC0415 (not before there is something to fill)

    patchmatch.set_random_seed(seed)
    taboo = avoid if avoid.any() else None
    return np.asarray(patchmatch.inpaint(picture, hole, global_mask=taboo, patch_size=_PATCH_RADIUS_PX))


if __name__ == "__main__":
    main()
