"""HEIC and AVIF files built box by box (ISO 14496-12, ISO 23008-12): grids, auxiliary pictures, loops of both."""

from __future__ import annotations

import io
import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

_SAMPLE = (Path(__file__).parent / "heic" / "turned.heic").read_bytes()
_PICTURE = slice(0x1ED, 0x1ED + 0xF2)  # the coded picture in the sample, as its box iloc states
TILE_PX = 64
_ALPHA = b"urn:mpeg:hevc:2015:auxid:1\0"


class Coded(NamedTuple):
    """A coded picture of 64 x 64 px: the kind of its item, its brand, its decoder configuration, and its bytes."""

    kind: bytes
    brand: bytes
    decoder: bytes
    data: bytes


def _take_box(file: bytes, kind: bytes) -> bytes:
    at = file.index(kind) - 4
    return file[at : at + int.from_bytes(file[at : at + 4], "big")]


HEVC = Coded(b"hvc1", b"heic", _take_box(_SAMPLE, b"hvcC"), _SAMPLE[_PICTURE])


@cache
def av1() -> Coded:
    """Return a tile of an AVIF."""
    file = io.BytesIO()
    Image.new("RGB", (TILE_PX, TILE_PX), (10, 40, 90)).save(file, "AVIF", speed=10)
    data = file.getvalue()
    return Coded(b"av01", b"avif", _take_box(data, b"av1C"), _take_box(data, b"mdat")[8:])


def build_grid(
    rows: int,
    columns: int,
    *,
    size: tuple[int, int] | None = None,
    loops: bool = False,
    auxiliaries: int = 0,
    coded: Coded = HEVC,
    tile: tuple[int, int] = (TILE_PX, TILE_PX),
    canvas: tuple[int, int] | None = None,
) -> bytes:
    """Return a HEIC or AVIF of equal tiles, 64 px a side.

    `size` and `tile` are the stated sizes, by default the true ones. The grid states `canvas`, by default `size`.
    With `loops` it consists of itself, and the auxiliary pictures belong to each other.
    """
    width, height = size or (columns * TILE_PX, rows * TILE_PX)
    tiles = list(range(2, 2 + rows * columns))
    others = list(range(2 + len(tiles), 2 + len(tiles) + auxiliaries))
    parts = [1] * len(tiles) if loops else tiles
    references = _box(b"dimg", struct.pack(f">HH{len(parts)}H", 1, len(parts), *parts))
    for place, number in enumerate(others):
        owner = others[(place + 1) % len(others)] if loops else 1
        references += _box(b"auxl", struct.pack(">HHH", number, 1, owner))
    body = bytes([0, 1, rows - 1, columns - 1]) + struct.pack(">II", *(canvas or (width, height))) + coded.data
    kind = _box(b"ftyp", coded.brand + b"\0\0\0\0mif1" + coded.brand)
    known = b"".join(
        [
            _full(b"hdlr", bytes(4) + b"pict" + bytes(13)),
            _full(b"pitm", struct.pack(">H", 1)),
            _items(tiles + others, coded.kind),
            _full(b"iref", references),
            _properties(tiles, others, coded.decoder, tile, (width, height)),
        ]
    )
    length = len(coded.data)
    start = len(kind) + 12 + len(known) + len(_locations(tiles + others, 0, length)) + 8
    return kind + _full(b"meta", known + _locations(tiles + others, start, length)) + _box(b"mdat", body)


def _items(numbers: list[int], kind: bytes) -> bytes:
    entries = [_full(b"infe", struct.pack(">HH", 1, 0) + b"grid\0", version=2)]
    entries += [_full(b"infe", struct.pack(">HH", number, 0) + kind + b"\0", version=2, flags=1) for number in numbers]
    return _full(b"iinf", struct.pack(">H", len(entries)) + b"".join(entries))


def _locations(numbers: list[int], start: int, length: int) -> bytes:
    entry, head = struct.Struct(">HHHII"), 12
    found = entry.pack(1, 0, 1, start, head)
    found += b"".join(entry.pack(number, 0, 1, start + head, length) for number in numbers)
    return _full(b"iloc", bytes([0x44, 0]) + struct.pack(">H", 1 + len(numbers)) + found)


def _properties(
    tiles: list[int], others: list[int], decoder: bytes, tile_size: tuple[int, int], size: tuple[int, int]
) -> bytes:
    tile, whole = (_full(b"ispe", struct.pack(">II", *pixels)) for pixels in (tile_size, size))
    used = [(1, b"\3"), *((number, b"\x81\2") for number in tiles), *((number, b"\x81\2\4") for number in others)]
    body = b"".join(struct.pack(">HB", number, len(places)) + places for number, places in used)
    container = _box(b"ipco", decoder + tile + whole + _full(b"auxC", _ALPHA))
    return _box(b"iprp", container + _full(b"ipma", struct.pack(">I", len(used)) + body))


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, flags]) + body)
