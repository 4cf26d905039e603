"""A disk so small that it can be filled, for the broker's store; only a user who may mount can have one."""

from __future__ import annotations

import errno
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORE_BYTES = 16 * 1024**3  # what the broker is told it has: it must find out by itself
_BLOCKS = 64 * 1024, 64


class CannotMount(Exception):
    """The system does not let us."""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Have the folder on a disk of its own, in memory, while the block runs. Raises CannotMount."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotMount(f"No disk can be mounted at {folder}.") from error
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no byte of the folder's disk to anybody while the block runs."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in _BLOCKS:
                _write_all(file, size)
        yield
    finally:
        filler.unlink(missing_ok=True)


def _write_all(file: object, size: int) -> None:
    try:
        while True:
            file.write(bytes(size))  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
