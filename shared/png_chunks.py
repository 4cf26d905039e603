"""The chunks of a PNG: those that its pixels need, and the metadata before them (PNG specification, third edition)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import BadImage
from shared.png import SIGNATURE, chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = struct.Struct(">IIBBBBB")
_ANIMATION = struct.Struct(">II")  # of a chunk acTL: frames, repetitions
_FRAME = struct.Struct(">IIIII")  # of a chunk fcTL: number, width, height, x, y
_END = chunk(b"IEND")
# Chunks that state the meaning of the colours, in the order in which the first one counts (12.3), with their lengths.
_COLOURS = {b"cICP": 4, b"iCCP": None, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
_FULL_RANGE_RGB = b"\0\1"  # the only ending of a chunk cICP that browsers show
_KEY_BYTES = {0: 2, 2: 6}  # of a chunk tRNS, by colour type
_PALETTE, _PALETTE_BYTES = 3, 256
_LONGEST_PROFILE_BYTES = 16 * 1024**2
_LARGEST_NUMBER = 2**31 - 1  # of four bytes (7.1)


class Chunk(NamedTuple):
    """A chunk: its name, its body, and all of its bytes."""

    kind: bytes
    body: memoryview
    whole: memoryview


class Frame(NamedTuple):
    """A frame of an animation: its size and its place on the canvas, in pixels."""

    width: int
    height: int
    x: int
    y: int


@dataclass(slots=True)
class Parts:
    """A PNG in parts. `pixels` is a file without metadata, of the picture that browsers show first.

    `frame` is None, or the place of that picture on the canvas. `frames` is the number of pictures of an animation, 0
    for a still picture. `ended` is whether the file has its end.
    """

    size: tuple[int, int] = (0, 0)
    pixels: bytes = b""
    exif: bytes = b""
    icc: bytes | None = None
    colours: dict[bytes, bytes] = field(default_factory=dict)
    frame: Frame | None = None
    frames: int = 0
    ended: bool = False


def read(data: bytes) -> Parts:
    """Sort the chunks. Raises ValueError without a header, and BadImage if one for the pixels is damaged or missing.

    Other chunks with a wrong checksum or length are left out, as in browsers.
    """
    chunks = list(find_chunks(data))
    if not chunks or chunks[0].kind != b"IHDR" or len(chunks[0].body) != _HEADER.size:
        raise ValueError("no header")
    width, height, _, colour_type, *_ = _HEADER.unpack(chunks[0].body)
    parts = Parts((width, height), ended=chunks[-1].kind == b"IEND")
    first = next((place for place, found in enumerate(chunks) if found.kind == b"IDAT"), len(chunks))
    before, behind = chunks[:first], chunks[first:]
    _read_metadata(parts, before)
    beside = [found.whole for found in before if _is_needed(found, colour_type)]
    pixels = [found.whole for found in behind if found.kind == b"IDAT"]
    if not pixels:
        raise BadImage("The image is damaged or incomplete.")
    header = chunks[0].whole
    parts.frames = min(parts.frames, sum(found.kind == b"fcTL" for found in chunks))
    if parts.frames and all(found.kind != b"fcTL" for found in before) and (frame := _first_frame(behind, parts)):
        parts.frame, pixels = frame
        header = memoryview(chunk(b"IHDR", _HEADER.pack(*parts.frame[:2], *chunks[0].body[8:])))
    parts.pixels = b"".join([SIGNATURE, header, *beside, *pixels, _END])
    return parts


def _read_metadata(parts: Parts, before: list[Chunk]) -> None:
    for kind, body, _ in before:
        if kind == b"acTL" and len(body) == _ANIMATION.size:
            frames, _ = _ANIMATION.unpack(body)
            parts.frames = frames if frames <= _LARGEST_NUMBER else 0
        elif kind == b"eXIf" and not parts.exif:
            parts.exif = bytes(body)
        elif kind == b"iCCP" and parts.icc is None:
            parts.icc = _profile(body)
        elif _COLOURS.get(kind) == len(body) and (kind != b"cICP" or body[2:] == _FULL_RANGE_RGB):
            parts.colours.setdefault(kind, bytes(body))


def _profile(body: memoryview) -> bytes | None:
    """Return the profile of a chunk iCCP: a name, a zero, the method 0, and compressed bytes; None if it is broken."""
    name, _, rest = bytes(body).partition(b"\0")
    if not name or rest[:1] != b"\0":
        return None
    try:
        return zlib.decompressobj().decompress(rest[1:], _LONGEST_PROFILE_BYTES)
    except zlib.error:
        return None


def _is_needed(found: Chunk, colour_type: int) -> bool:
    if found.kind != b"tRNS":
        return found.kind == b"PLTE"
    if colour_type == _PALETTE:
        return 0 < len(found.body) <= _PALETTE_BYTES
    return len(found.body) == _KEY_BYTES.get(colour_type)


def _first_frame(behind: list[Chunk], parts: Parts) -> tuple[Frame, list[memoryview]] | None:
    """Return the first frame of an animation that the still picture does not belong to; None if it is broken.

    Browsers do not show that still picture, which is for programs without animation.
    """
    data = next((place for place, found in enumerate(behind) if found.kind == b"fdAT"), 0)
    control = next((found for found in reversed(behind[:data]) if found.kind == b"fcTL"), None)
    if control is None or len(control.body) < _FRAME.size:
        return None
    its_own = takewhile(lambda found: found.kind != b"fcTL", behind[data:])
    pieces = [chunk(b"IDAT", found.body[4:]) for found in its_own if found.kind == b"fdAT"]
    _, *place = _FRAME.unpack(control.body[: _FRAME.size])
    frame = Frame(*place)
    fits = frame.x + frame.width <= parts.size[0] and frame.y + frame.height <= parts.size[1]
    if not (fits and frame.width and frame.height):
        return None
    return frame, [memoryview(piece) for piece in pieces]


def find_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield each chunk up to IEND; stop at an incomplete one. Raises BadImage, see `read`."""
    view, at = memoryview(data), len(SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return
        kind = data[at + 4 : at + 8]
        is_sound = zlib.crc32(view[at + 4 : end]) == struct.unpack_from(">I", data, end)[0]
        if is_sound or kind == b"IEND":
            yield Chunk(kind, view[at + 8 : end], view[at : end + 4])
        elif not kind[0] & 0x20:  # a name in capitals is critical
            raise BadImage("The image is damaged or incomplete.")
        if kind == b"IEND":
            return
        at = end + 4
