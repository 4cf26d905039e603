"""Fills holes with PatchMatch in a child process, because a fill can only be cancelled by a kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.backends.patchmatch import child as child_module
from services.a100worker.child_process import ChildProcess

if TYPE_CHECKING:
    from services.a100worker.cancel_flag import CancelFlag
    from shared.image_codec import Grey, Rgb


class Filler:
    """Owns the child process. Not thread-safe; only the cancel flag may be set from another thread."""

    def __init__(self) -> None:
        self._child = ChildProcess(child_module.__file__)

    def fill(self, image: Rgb, hole: Grey, avoid: Grey, seed: int, cancel_flag: CancelFlag) -> Rgb:
        """Return the image with the nonzero pixels of `hole` filled. Pixels of `avoid` are neither copied nor filled.

        The same arguments give the same pixels. Raises JobCancelled as soon as the flag is set, and EngineFailed if
        the child dies.
        """
        header = child_module.HEADER.pack(*hole.shape, seed)
        parts = (part if isinstance(part, bytes) else part.tobytes() for part in (header, image, hole, avoid))
        return np.frombuffer(self._child.ask(parts, image.nbytes, cancel_flag), np.uint8).reshape(image.shape)

    def close(self) -> None:
        """Kill the child, if there is one, and wait for its end. A later fill starts a new one."""
        self._child.close()
