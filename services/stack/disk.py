"""Fits the broker's store to the free disk space: the default sizes need 11 GB, and a laptop may have less."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SETTING = "STREAMS_PICTURE_BYTES"
OTHER_STREAMS_BYTES = 3 * 1024**3
"""At least the limits of all streams except the image buckets, in `shared/topology.py`."""
_DEFAULT_BYTES, _LEAST_BYTES = 8 * 1024**3, 64 * 1024**2  # the setting's default and minimum
_SHARE = 0.75  # share of the free space; other programs need the rest


@dataclass(frozen=True, slots=True)
class StoreSize:
    """The sizes of a store, in bytes."""

    free: int
    """The free space, plus the present size of the store."""
    images: int
    """The limit of all image buckets together."""

    @property
    def whole(self) -> int:
        """The limit of all streams."""
        return self.images + OTHER_STREAMS_BYTES

    def __str__(self) -> str:
        return f"images may take {self.images / 1e9:.1f} GB of {self.free / 1e9:.1f} GB of disk space"


def fit_store(store: Path, environment: Mapping[str, str] = os.environ) -> StoreSize | None:
    """Return the sizes for a store in this folder; None if the user has set STREAMS_PICTURE_BYTES."""
    if SETTING in environment:
        return None
    folder = next(parent for parent in (store, *store.absolute().parents) if parent.exists())
    return size_for(shutil.disk_usage(folder).free + _size_of(store))


def size_for(free: int) -> StoreSize:
    """Return the sizes for this free space: a share of it, at least the setting's minimum and at most its default."""
    images = int(free * _SHARE) - OTHER_STREAMS_BYTES
    return StoreSize(free, max(_LEAST_BYTES, min(_DEFAULT_BYTES, images)))


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # a broker that is just stopping may still remove files
            continue
    return total
