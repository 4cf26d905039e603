"""Lets one command at a time change a model's folder."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def exclusive(home: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the folder's lock; call `waiting` once when another process holds it. The lock ends with the process.

    Some network file systems have no locks for folders; there two pulls at once are not kept apart.
    """
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
