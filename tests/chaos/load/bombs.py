"""Uploads that need far more memory than their bytes: they are refused or stored, without an effect on others."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from random import Random

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SCANS, _CHUNKS = 8_000, 500_000
KINDS = ("wide", "large", "chunks", "scans", "noise")


def build(kind: str, dice: Random) -> bytes:
    """Return a file of this kind."""
    match kind:
        case "wide":
            return _png(60_000, 60_000, zlib.compress(bytes(1_000)))
        case "large":
            return _png(8_000, 8_000, zlib.compress(bytes(8_000 * 8_001)))
        case "chunks":
            return _png(8, 8, zlib.compress(bytes(8 * 9)), _chunk(b"tEXt", b"") * _CHUNKS)
        case "scans":
            return _jpeg()
        case _:
            return _SIGNATURE + dice.randbytes(1_000_000)


def _png(width: int, height: int, pixels: bytes, more: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + more + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _jpeg() -> bytes:
    """Return a progressive JPEG that repeats its last scan."""
    buffer = io.BytesIO()
    Image.new("RGB", (2_000, 2_000), "teal").save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * _SCANS + data[-2:]
