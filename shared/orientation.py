"""The orientation tag of EXIF data, read as browsers read it."""

from __future__ import annotations

import struct

UPRIGHT = 1
SIDEWAYS = frozenset({5, 6, 7, 8})  # orientations that swap width and height
_TAG = 0x0112
_SHORT = 3
_ENTRY_BYTES = 12


def orientation_of(block: bytes) -> int:
    """Return the orientation, 1 to 8, that a TIFF block states (EXIF 2.32, 4.6.2 and tag 274).

    It counts only in the first directory, as one SHORT. Anything else, also a broken block, is upright: metadata
    never costs the pixels.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:  # noqa: PLR2004 (byte order, magic number, address of the directory)
        return UPRIGHT
    (at,) = struct.unpack_from(f"{order}I", block, 4)
    if at + 2 > len(block):
        return UPRIGHT
    (count,) = struct.unpack_from(f"{order}H", block, at)
    last = min(at + 2 + count * _ENTRY_BYTES, len(block) - _ENTRY_BYTES + 1)
    for entry in range(at + 2, last, _ENTRY_BYTES):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", block, entry)
        if tag == _TAG and kind == _SHORT and values == 1 and value in range(1, 9):
            return int(value)
    return UPRIGHT
