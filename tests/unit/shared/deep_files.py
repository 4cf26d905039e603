"""Files with 16 and more bits a channel, written by hand from their specifications: Pillow writes hardly any."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint16]
    """(height, width, channels)"""

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_SHORT, _LONG = 3, 4
_KINDS = {(16, 1): "u2", (16, 2): "i2", (32, 1): "u4", (32, 2): "i4", (32, 3): "f4", (64, 3): "f8"}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(pixels: Pixels, *between: bytes, interlaced: bool = False) -> bytes:
    """Return a PNG with 16 bits a channel; `between` are chunks before the pixels."""
    height, width, channels = pixels.shape
    parts = [pixels[y::dy, x::dx] for y, x, dy, dx in _PASSES] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, interlaced)
    body = chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *between, body])


def read_png(data: bytes) -> Pixels:
    """Return the pixels of a PNG that the product wrote: 16 bits, filter Up, not interlaced."""
    width, height, bits, colour_type = struct.unpack(">IIBB", data[16:26])
    assert bits == 16
    channels = {kind: count for count, kind in _COLOUR_TYPES.items()}[colour_type]
    at, packed = 8, b""
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        packed += data[at + 8 : at + 8 + length] if data[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 2).all()
    raw = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8)
    return raw.view(">u2").reshape(height, width, channels).astype(np.uint16)


def tiff(
    pixels: NDArray[Any], *, order: str = "<", bits: int = 16, kind: int = 1, planes: bool = False, extra: int = 2,
    photometric: int | None = None, orientation: int = 1,
) -> bytes:  # fmt: skip
    """Return a TIFF without compression. `kind`: 1 unsigned, 2 signed, 3 float; `extra`: 1 and 2 opacity, 0 nothing."""
    height, width, channels = pixels.shape
    stored = pixels.transpose(2, 0, 1) if planes else pixels
    body = stored.astype(order + _KINDS[bits, kind]).tobytes()
    strips = channels if planes else 1
    places = [number * len(body) // strips for number in range(strips)]
    tags: list[tuple[int, int, list[int]]] = [
        (256, _LONG, [width]), (257, _LONG, [height]), (258, _SHORT, [bits] * channels), (259, _SHORT, [1]),
        (262, _SHORT, [(2 if channels > 2 else 1) if photometric is None else photometric]), (273, _LONG, places),
        (274, _SHORT, [orientation]), (277, _SHORT, [channels]), (278, _LONG, [height]),
        (279, _LONG, [len(body) // strips] * strips), (284, _SHORT, [1 + planes]),
        *([(338, _SHORT, [extra])] if channels in {2, 4} else []), (339, _SHORT, [kind] * channels),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    beside = sum(len(values) * {_SHORT: 2, _LONG: 4}[sort] for _, sort, values in tags)  # room for all, used by some
    entries, far = b"", b""
    for tag, sort, values in tags:
        moved = [value + start + beside for value in values] if tag == 273 else values
        packed = struct.pack(f"{order}{len(moved)}{ {_SHORT: 'H', _LONG: 'I'}[sort] }", *moved)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", start + len(far))
            far += packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, sort, len(values)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + bytes(4) + far.ljust(beside, b"\0") + body
