"""Reads what a safetensors file says it holds, and sees that it holds it; the numbers themselves stay on disk.

The format: eight bytes of length, little-endian, as much JSON, then the tensors without gaps.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of the header."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, Tensor]:
    """Return the tensors by name. Raises ValueError when the file is cut short, or none of this format."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if not 0 < length <= min(_MAX_HEADER_BYTES, size - 8):
            raise ValueError("it is no safetensors file")
        try:
            entries = json.loads(file.read(length))
            entries.pop("__metadata__", None)
            tensors = {name: Tensor(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
            end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError("it is no safetensors file") from error
    if 8 + length + end != size:
        raise ValueError("it is cut short" if 8 + length + end > size else "it is longer than it says")
    return tensors
