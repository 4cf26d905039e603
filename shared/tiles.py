"""Compares the size that a HEIC or AVIF states with the sizes of its coded pictures, before any pixel is decoded.

The decoders find such a contradiction only after the decoding, too late for the answer to an upload. ISO/IEC 23008-12,
6.6.2.3 (grids); MIAF, ISO/IEC 23000-22, 7.3.11.4; HEVC, ITU-T H.265, 7.3.2.2 (SPS).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from shared.errors import BadImage
from shared.isobmff import Numbers, boxes_in, items_of, locations_of

if TYPE_CHECKING:
    from shared.isobmff import Box

    Size: TypeAlias = tuple[int, int]
    """Width and height in pixels."""

_MOST_ITEMS, _MOST_PROPERTIES = 1000, 1000
_SEQUENCE_NAL = 33
_LONGEST_CODING = 4096  # bytes
_LEAST_AVIF_TILE_PX = 64
_ALPHA = re.compile(rb"auxid:1|auxiliary:alpha")  # the ends of the names in HEIC and AVIF
_HALVED = {1: (2, 2), 2: (2, 1)}
"""The factors of the colour planes, across and down, by `chroma_format_idc`."""


@dataclass(frozen=True, slots=True)
class _Items:
    """The items of a file: their kinds, the boxes of their properties, and their references by number."""

    data: bytes
    kinds: dict[int, bytes]
    properties: dict[int, list[Box]]
    references: dict[tuple[bytes, int], list[int]]

    def property_of(self, number: int, kind: bytes) -> bytes | None:
        """Return the body of an item's first property of this kind."""
        found = next((box for box in self.properties.get(number, ()) if box.kind == kind), None)
        return None if found is None else self.data[found.start : found.end]

    def size_of(self, number: int) -> Size | None:
        """Return the size that an item states."""
        body = self.property_of(number, b"ispe")
        return None if body is None else (int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:12], "big"))


def check_sizes(data: bytes, kind: str) -> None:
    """Raise BadImage if the main picture, or its transparency, cannot have the size that the file states."""
    items, primary = _read_items(data), _read_primary(data)
    for number in (primary, *_find_transparency(items, primary)):
        fits = _grid_fits(items, number, kind) if items.kinds.get(number) == b"grid" else _coded_fits(items, number)
        if not fits or (kind == "HEIF" and not _crop_fits(items, number)):
            raise BadImage(f"The {kind} and its picture have different sizes; save it again, as PNG or JPEG.")


def _find_transparency(items: _Items, primary: int) -> list[int]:
    """Return the numbers of the pictures with the opacity; ignore other auxiliary pictures such as a depth map."""
    auxiliary = [number for (name, number), to in items.references.items() if name == b"auxl" and primary in to]
    return [number for number in auxiliary if _ALPHA.search(items.property_of(number, b"auxC") or b"")]


def _grid_fits(items: _Items, number: int, kind: str) -> bool:
    tiles = items.references.get((b"dimg", number), [])
    grid, stated = _read_grid(items.data, number), items.size_of(number)
    tile = items.size_of(tiles[0]) if tiles else None
    if grid is None or tile is None:
        return True  # the decoder refuses it at once
    halved = _read_halves(items.property_of(tiles[0], b"av1C"))
    for parts, part, canvas, whole, half in zip(grid[:2], tile, grid[2:], stated or grid[2:], halved, strict=True):
        is_covered = parts * part >= max(whole, canvas)
        if not is_covered or (kind == "HEIF" and whole != canvas):
            return False
        if kind == "AVIF" and (part < _LEAST_AVIF_TILE_PX or (parts - 1) * part >= min(whole, canvas)):
            return False
        if half and (part % 2 or canvas % 2):
            return False
    return all(items.size_of(each) == tile and _coded_fits(items, each) for each in set(tiles))


def _read_halves(coding: bytes | None) -> tuple[bool, bool]:
    """Return whether the colours of AV1 tiles have half the pixels, across and down (AV1-ISOBMFF, 2.3)."""
    flags = 0 if coding is None or len(coding) < 3 else coding[2]  # noqa: PLR2004
    is_grey = bool(flags & 0x10)
    return not is_grey and bool(flags & 8), not is_grey and bool(flags & 4)


def _coded_fits(items: _Items, number: int) -> bool:
    """Return whether an HEVC picture has its stated size. An AVIF decoder scales to the stated size."""
    stated, coding = items.size_of(number), items.property_of(number, b"hvcC")
    coded = None if coding is None else _read_coded_size(coding[:_LONGEST_CODING])
    return stated is None or coded is None or stated == coded


def _crop_fits(items: _Items, number: int) -> bool:
    """Return whether the visible part of a picture lies inside it (ISO 14496-12, 12.1.4)."""
    crop, size = items.property_of(number, b"clap"), items.size_of(number)
    if crop is None or size is None:
        return True
    width_px, of_width, height_px, of_height, *offsets = (
        int.from_bytes(crop[at : at + 4], "big", signed=True) for at in range(0, 32, 4)
    )
    parts = ((width_px, of_width, *offsets[:2]), (height_px, of_height, *offsets[2:]))
    for whole, (part, of, offset, over) in zip(size, parts, strict=True):
        # Its middle is `offset / over` from that of the picture, and half of the rest is on each side.
        if of <= 0 or over <= 0 or part <= 0 or abs(2 * offset * of) > (whole * of - part) * over:
            return False
    return True


# --- boxes --------------------------------------------------------------------------------------------------------


def _read_items(data: bytes) -> _Items:
    kinds = {number: kind for number, kind, _ in islice(items_of(data), _MOST_ITEMS)}
    known = list(islice(boxes_in(data, b"meta", b"iprp", b"ipco"), _MOST_PROPERTIES))
    properties: dict[int, list[Box]] = {}
    for box in boxes_in(data, b"meta", b"iprp"):
        if box.kind == b"ipma":
            properties |= _read_associations(data[box.start : box.end], known)
    references: dict[tuple[bytes, int], list[int]] = {}
    wide = next((data[box.start] > 0 for box in boxes_in(data, b"meta") if box.kind == b"iref"), False)
    for box in islice(boxes_in(data, b"meta", b"iref"), _MOST_ITEMS):
        reader, length = Numbers(data[box.start : box.end]), 4 if wide else 2
        number, count = reader.take(length), min(reader.take(2), _MOST_ITEMS)
        references[box.kind, number] = [reader.take(length) for _ in range(count)]
    return _Items(data, kinds, properties, references)


def _read_associations(body: bytes, known: list[Box]) -> dict[int, list[Box]]:
    reader = Numbers(body)
    version, flags, count = reader.take(1), reader.take(3), reader.take(4)
    found: dict[int, list[Box]] = {}
    for _ in range(min(count, _MOST_ITEMS)):
        number, parts = reader.take(4 if version else 2), reader.take(1)
        places = [reader.take(2) & 0x7FFF if flags & 1 else reader.take(1) & 0x7F for _ in range(parts)]
        found[number] = [known[place - 1] for place in places if 0 < place <= len(known)]
        if reader.is_at_end:
            break
    return found


def _read_primary(data: bytes) -> int:
    box = next((box for box in boxes_in(data, b"meta") if box.kind == b"pitm"), None)
    return -1 if box is None else int.from_bytes(data[box.start + 4 : box.end], "big")


def _read_grid(data: bytes, number: int) -> tuple[int, int, int, int] | None:
    """Return columns, rows, width and height in pixels of the whole grid."""
    inner = next((box.start for box in boxes_in(data, b"meta") if box.kind == b"idat"), 0)
    for found, method, parts in locations_of(data):
        if found == number and parts:
            at = parts[0][0] + (inner if method else 0)
            reader = Numbers(data[at : at + 12])
            reader.take(1)
            length = 4 if reader.take(1) & 1 else 2
            rows, columns = reader.take(1) + 1, reader.take(1) + 1
            return columns, rows, reader.take(length), reader.take(length)
    return None


# --- the sequence parameters of HEVC ------------------------------------------------------------------------------


class _Bits:
    """Reads single bits and codes of Exp-Golomb (ITU-T H.265, 9.2); beyond the end they are 0."""

    def __init__(self, nal: bytes) -> None:
        payload = nal[2:].replace(b"\0\0\3", b"\0\0")  # without the emulation prevention bytes
        self._bits = "".join(f"{byte:08b}" for byte in payload)
        self._at = 0

    def take(self, count: int) -> int:
        self._at += count
        return int(self._bits[self._at - count : self._at] or "0", 2)

    def take_code(self) -> int:
        zeros = 0
        while zeros < 32 and self._at < len(self._bits) and not self.take(1):  # noqa: PLR2004 (the longest code)
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


@lru_cache(maxsize=4)  # the same in all tiles of a picture
def _read_coded_size(coding: bytes) -> Size | None:
    """Return the size of the pictures of a decoder configuration (ISO/IEC 14496-15, 8.3.3); None without one."""
    reader = Numbers(coding[22:])
    for _ in range(reader.take(1)):
        is_sequence = reader.take(1) & 0x3F == _SEQUENCE_NAL
        for _ in range(reader.take(2)):
            nal = reader.take_bytes(reader.take(2))
            if is_sequence:
                return _read_sequence_size(_Bits(nal))
            if reader.is_at_end:
                return None
    return None


def _read_sequence_size(bits: _Bits) -> Size:
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)  # profile and level of the whole
    has = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for profile, level in has:
        bits.take(88 * profile + 8 * level)
    bits.take_code()
    chroma = bits.take_code()
    bits.take(chroma == 3)  # noqa: PLR2004 (4:4:4 may have separate planes)
    width, height = bits.take_code(), bits.take_code()
    if bits.take(1):
        left, right, top, bottom = (bits.take_code() for _ in range(4))
        across, down = _HALVED.get(chroma, (1, 1))
        width, height = width - across * (left + right), height - down * (top + bottom)
    return width, height
