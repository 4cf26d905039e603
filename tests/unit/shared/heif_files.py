"""HEIC files built box by box (ISO 14496-12, ISO 23008-12): grids of tiles, auxiliary pictures, loops of both."""

from __future__ import annotations

import struct
from pathlib import Path

_SAMPLE = (Path(__file__).parent / "heic" / "turned.heic").read_bytes()
_PICTURE = slice(0x1ED, 0x1ED + 0xF2)  # the coded picture in the sample, as its box iloc states
TILE_PX = 64
_ALPHA = b"urn:mpeg:hevc:2015:auxid:1\0"


def build_grid(
    rows: int, columns: int, *, size: tuple[int, int] | None = None, loops: bool = False, auxiliaries: int = 0
) -> bytes:
    """Return a HEIC of equal tiles, 64 px a side. `size` is the stated one, by default the true one.

    With `loops` the grid consists of itself, and the auxiliary pictures belong to each other.
    """
    width, height = size or (columns * TILE_PX, rows * TILE_PX)
    tiles = list(range(2, 2 + rows * columns))
    others = list(range(2 + len(tiles), 2 + len(tiles) + auxiliaries))
    parts = [1] * len(tiles) if loops else tiles
    references = _box(b"dimg", struct.pack(f">HH{len(parts)}H", 1, len(parts), *parts))
    for place, number in enumerate(others):
        owner = others[(place + 1) % len(others)] if loops else 1
        references += _box(b"auxl", struct.pack(">HHH", number, 1, owner))
    body = bytes([0, 1, rows - 1, columns - 1]) + struct.pack(">II", width, height) + _SAMPLE[_PICTURE]
    kind = _box(b"ftyp", b"heic\0\0\0\0mif1heic")
    known = b"".join(
        [
            _full(b"hdlr", bytes(4) + b"pict" + bytes(13)),
            _full(b"pitm", struct.pack(">H", 1)),
            _items(tiles + others),
            _full(b"iref", references),
            _properties(tiles, others, (width, height)),
        ]
    )
    start = len(kind) + 12 + len(known) + len(_locations(tiles + others, 0)) + 8
    return kind + _full(b"meta", known + _locations(tiles + others, start)) + _box(b"mdat", body)


def _items(numbers: list[int]) -> bytes:
    entries = [_full(b"infe", struct.pack(">HH", 1, 0) + b"grid\0", version=2)]
    entries += [_full(b"infe", struct.pack(">HH", number, 0) + b"hvc1\0", version=2, flags=1) for number in numbers]
    return _full(b"iinf", struct.pack(">H", len(entries)) + b"".join(entries))


def _locations(numbers: list[int], start: int) -> bytes:
    entry, head = struct.Struct(">HHHII"), 12
    coded = _PICTURE.stop - _PICTURE.start
    found = entry.pack(1, 0, 1, start, head)
    found += b"".join(entry.pack(number, 0, 1, start + head, coded) for number in numbers)
    return _full(b"iloc", bytes([0x44, 0]) + struct.pack(">H", 1 + len(numbers)) + found)


def _properties(tiles: list[int], others: list[int], size: tuple[int, int]) -> bytes:
    at = _SAMPLE.index(b"hvcC") - 4
    decoder = _SAMPLE[at : at + int.from_bytes(_SAMPLE[at : at + 4], "big")]
    tile, whole = (_full(b"ispe", struct.pack(">II", *pixels)) for pixels in ((TILE_PX, TILE_PX), size))
    used = [(1, b"\3"), *((number, b"\x81\2") for number in tiles), *((number, b"\x81\2\4") for number in others)]
    body = b"".join(struct.pack(">HB", number, len(places)) + places for number, places in used)
    container = _box(b"ipco", decoder + tile + whole + _full(b"auxC", _ALPHA))
    return _box(b"iprp", container + _full(b"ipma", struct.pack(">I", len(used)) + body))


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, flags]) + body)
