"""Reads the header of a safetensors file and checks the file's length; the numbers themselves stay on disk.

The format: eight bytes of length, little-endian, then a JSON header of that length, then the tensors without gaps.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAX_HEADER_BYTES = 100_000_000
_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """Where its bytes begin in the file, and where they end."""
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """The tensors by name, and the free text that the writer of the file added."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Return the header of a file. Raises ValueError when the file is cut short or has another format."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if not 0 < length <= min(_MAX_HEADER_BYTES, size - 8):
            raise ValueError("it is not a safetensors file")
        text = file.read(length)
    try:
        header = _parse(text, 8 + length)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError("it is not a safetensors file") from error
    end = max((tensor.end for tensor in header.tensors.values()), default=8 + length)
    if end != size:
        raise ValueError("it is cut short" if end > size else "it is longer than its header states")
    return header


def _parse(text: bytes, start: int) -> Header:
    entries = json.loads(text)
    metadata = {str(key): str(value) for key, value in (entries.pop(_METADATA, None) or {}).items()}
    tensors = {}
    for name, entry in entries.items():
        first, last = entry["data_offsets"]
        tensors[name] = Tensor(entry["dtype"], tuple(entry["shape"]), start + int(first), start + int(last))
    return Header(tensors, metadata)
