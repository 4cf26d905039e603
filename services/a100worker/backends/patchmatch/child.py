"""The child process that fills holes with PatchMatch. One call takes long and can only be ended by a kill.

It reads HEADER (height, width, seed), image, hole and avoid from stdin, and writes the filled image to stdout. The
parent starts it by its path, so it must not import from this project.
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
_THREADS = 2  # not all cores: other programs run on this machine; the fill is the same with any number
_PATCH_RADIUS_PX = 3  # better than 5 and 15 by measure and by eye: larger patches show as repetitions


def main() -> None:
    """Serve until the parent closes the stream or dies, even during a fill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    threading.excepthook = _exit_on_failure
    # PatchMatch releases the interpreter lock, so this thread notices the end of the stream during a fill.
    while header := sys.stdin.buffer.read(HEADER.size):
        height, width, seed = HEADER.unpack(header)
        body = sys.stdin.buffer.read(height * width * 5)
        threading.Thread(target=_write_fill, args=(body, height, width, seed), daemon=True).start()
    os._exit(0)


def _exit_on_failure(failure: threading.ExceptHookArgs) -> None:
    """Print the failure and exit, which closes the parent's stream."""
    threading.__excepthook__(failure)
    os._exit(1)


def _write_fill(body: bytes, height: int, width: int, seed: int) -> None:
    area = height * width
    flat = np.frombuffer(body, np.uint8)
    image = flat[: area * 3].reshape(height, width, 3)
    hole, avoid = flat[area * 3 :].reshape(2, height, width)
    sys.stdout.buffer.write(_fill(image, hole, avoid, seed).tobytes())
    sys.stdout.buffer.flush()


def _fill(image: NDArray[np.uint8], hole: NDArray[np.uint8], avoid: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    import patchmatch  # noqa: PLC0415 (import at the first fill only)

    patchmatch.set_num_threads(_THREADS)
    patchmatch.set_random_seed(seed)
    forbidden = avoid if avoid.any() else None
    return np.asarray(patchmatch.inpaint(image, hole, global_mask=forbidden, patch_size=_PATCH_RADIUS_PX))


if __name__ == "__main__":
    main()
