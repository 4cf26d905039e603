"""Makes sessions of onnxruntime that return their memory, and runs that a cancel can end."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import onnxruntime

from shared.errors import JobCancelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.segmentation.backend import Checkpoint

CPU = "CPUExecutionProvider"
CANCEL_POLL_S = 0.05


def make_options() -> Any:
    """Return options of a session that keeps no memory between runs, and no core busy."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would use both cores
    options.enable_cpu_mem_arena = False  # the arena keeps its memory between runs
    options.enable_mem_pattern = False  # in one planned block, the activations of SAM 2.1 would take 110 MB more
    options.log_severity_level = 3
    return options


@contextmanager
def cancellable_by(checkpoint: Checkpoint) -> Iterator[Any]:
    """Yield run options; the run ends with an exception within 50 ms after the checkpoint raises."""
    options, finished = onnxruntime.RunOptions(), threading.Event()

    def watch() -> None:
        while not finished.wait(CANCEL_POLL_S):
            try:
                checkpoint()
            except JobCancelled:
                options.terminate = True
                return

    watcher = threading.Thread(target=watch, name="onnx-watch", daemon=True)
    watcher.start()
    try:
        yield options
    finally:
        finished.set()
        watcher.join()
