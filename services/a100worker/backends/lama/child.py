"""The child process that runs LaMa on the CPU. One run takes seconds and can only be ended by a kill.

The parent starts it by its path, so it must not import from this project. Its arguments are the path of the model file
and the seconds after which it closes an idle session. It reads a byte, CHECK or FILL, and after FILL an image and a
mask (0 or 255) of SIDE_PX from stdin. It writes a byte, OK or a reason, and after FILL the filled image.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE_PX = 512
AREA_PX = SIDE_PX * SIDE_PX
CHECK, FILL = b"c", b"f"
OK, NO_LIBRARY, DAMAGED, OTHER_SIGNATURE, BAD_ANSWER = b"o", b"l", b"d", b"s", b"b"
_INPUTS = [("image", 3), ("mask", 1)]
_THREADS = 4


class Unusable(Exception):
    """The model cannot be used; its argument is the byte for the parent."""


def main() -> None:
    """Serve until the parent closes the stream or dies, even during a run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    threading.excepthook = _exit_on_failure
    requests: queue.SimpleQueue[tuple[bytes, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_serve, args=(requests, sys.argv[1], float(sys.argv[2])), daemon=True).start()
    # onnxruntime releases the interpreter lock, so this thread notices the end of the stream during a run.
    while kind := sys.stdin.buffer.read(1):
        requests.put((kind, sys.stdin.buffer.read(4 * AREA_PX) if kind == FILL else b""))
    os._exit(0)


def _exit_on_failure(failure: threading.ExceptHookArgs) -> None:
    """Print the failure and exit, which closes the parent's stream."""
    threading.__excepthook__(failure)
    os._exit(1)


def _serve(requests: queue.SimpleQueue[tuple[bytes, bytes]], path: str, idle_s: float) -> None:
    session = None
    while True:
        try:
            kind, body = requests.get(timeout=None if session is None else idle_s)
        except queue.Empty:
            session = None
            _return_memory()
            continue
        try:
            session = session or _open(path)
            answer = OK + (_run(session, body).tobytes() if kind == FILL else b"")
        except Unusable as problem:
            answer = problem.args[0] + (bytes(3 * AREA_PX) if kind == FILL else b"")
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


def _open(path: str) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 (in a thread, so that the main thread reads at once)
    except ImportError as error:
        raise Unusable(NO_LIBRARY) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(_THREADS, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # the arena keeps the memory of the largest run
    options.enable_mem_pattern = False
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has no base class for the errors of a damaged file
        raise Unusable(DAMAGED) from error
    shapes = [(entry.name, entry.shape) for entry in session.get_inputs()]
    if [(name, shape[1]) for name, shape in shapes if len(shape) == 4] != _INPUTS:  # noqa: PLR2004
        raise Unusable(OTHER_SIGNATURE)
    if any(isinstance(side, int) and side != SIDE_PX for _, shape in shapes for side in shape[2:]):
        raise Unusable(OTHER_SIGNATURE)
    return session


def _run(session: Any, body: bytes) -> NDArray[np.uint8]:
    flat = np.frombuffer(body, np.uint8)
    image = flat[: 3 * AREA_PX].reshape(SIDE_PX, SIDE_PX, 3).astype(np.float32) / 255
    mask = (flat[3 * AREA_PX :].reshape(SIDE_PX, SIDE_PX) > 0).astype(np.float32)
    answers = session.run(None, {"image": image.transpose(2, 0, 1)[None], "mask": mask[None, None]})
    painted = np.asarray(answers[0])
    if painted.shape != (1, 3, SIDE_PX, SIDE_PX) or not np.isfinite(painted).all():
        raise Unusable(BAD_ANSWER)
    return np.asarray(np.clip(np.rint(painted[0].transpose(1, 2, 0)), 0, 255), np.uint8)


def _return_memory() -> None:
    """Return freed memory to the system, where the C library is glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


if __name__ == "__main__":
    main()
