"""A small disk for the store of the broker, so that a test can fill it. It needs the right to mount."""

from __future__ import annotations

import errno
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORE_BYTES = 16 * 1024**3  # the limit of the broker, above the size of the disk: it must notice the full disk itself
_BLOCKS = 64 * 1024, 64


class CannotMount(Exception):
    """This user may not mount a disk."""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Mount a disk in memory on the folder while the block runs. Raises CannotMount."""
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
def fill_disk(folder: Path) -> Iterator[None]:
    """Fill the disk of the folder while the block runs."""
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
