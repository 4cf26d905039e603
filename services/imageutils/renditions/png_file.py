"""Puts metadata into a PNG without touching its pixels (PNG specification, third edition, 11.3)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from services.imageutils.renditions.carried import read_text
from services.imageutils.renditions.containers import Picture
from shared import png_chunks, xmp
from shared.png import SIGNATURE, chunk

if TYPE_CHECKING:
    from services.imageutils.renditions.carried import Carried

_METRES_PER_INCH = 0.0254
_LARGEST_DENSITY = 2**31 - 1
_HEADER = struct.Struct(">8s4s4sIIBB")
_WITH_ALPHA = frozenset({4, 6})  # colour types
_REPLACED = frozenset({b"eXIf", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"tIME"})


class Header(NamedTuple):
    """The facts in the header of a PNG: the picture, and the bits a channel."""

    picture: Picture
    bits: int


def read_header(data: bytes) -> Header | None:
    """Return the facts in the header; None if the file is not a PNG."""
    if len(data) < _HEADER.size or not data.startswith(SIGNATURE):
        return None
    *_, width, height, bits, colour_type = _HEADER.unpack_from(data)
    return Header(Picture(width, height, colour_type in _WITH_ALPHA), bits)


def add_metadata(png: bytes, carried: Carried, exif: bytes) -> bytes:
    """Return the file with its metadata replaced by these, before its pixels. Raises BadImage if it is damaged."""
    added = [chunk(kind, content) for kind, content in carried.texts]
    if carried.density is not None:
        added.append(chunk(b"pHYs", struct.pack(">IIB", *map(_per_metre, carried.density), 1)))
    if exif:
        added.append(chunk(b"eXIf", exif))
    if carried.xmp:
        added.append(chunk(b"iTXt", xmp.build_png_text(carried.xmp)))
    parts: list[bytes | memoryview] = [SIGNATURE]
    for found in png_chunks.find_chunks(png):
        if found.kind == b"IDAT":
            parts += added
            added = []
        if found.kind not in _REPLACED:
            parts.append(found.whole)
    return b"".join(parts)


def _per_metre(per_inch: float) -> int:
    return max(1, min(round(per_inch / _METRES_PER_INCH), _LARGEST_DENSITY))


def read_xmp(png: bytes) -> bytes:
    """Return the XMP packet before the pixels; b"" without one."""
    for found in png_chunks.find_chunks(png):
        if found.kind == b"IDAT":
            break
        if found.kind == b"iTXt" and bytes(found.body[: len(xmp.PNG_KEYWORD) + 1]) == xmp.PNG_KEYWORD + b"\0":
            return read_text(bytes(found.body))
    return b""
