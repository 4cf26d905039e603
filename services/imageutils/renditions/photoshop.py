"""Photoshop image resources of a JPEG: keeps the captions (IPTC-IIM 4.2) and the copyright notice, drops the rest."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from services.imageutils.renditions.hidden_pictures import holds_picture

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"Photoshop 3.0\0"
_BLOCK, _IPTC = b"8BIM", 0x0404
# Copyright flag and address. Thumbnails (0x0409, 0x040C), layers, paths and copies of EXIF and XMP are not kept.
_KEPT = frozenset({0x040A, 0x040B})
_MOST_BLOCKS, LONGEST_IPTC = 4096, 60_000
_MARK, _CAPTIONS = 0x1C, frozenset({1, 2})  # records 7 to 9 hold objects, such as pictures
_FIRST_PREVIEW = 200  # the datasets 200 to 202 of record 2 are previews; both records define no later ones
_LONG_LENGTH = 0x8000


def read_resources(body: bytes) -> tuple[bytes, bytes]:
    """Return the IPTC data of a segment APP13, without previews, and its further resources that are kept, as blocks."""
    iptc, others = b"", b""
    for number, content, whole in _blocks(body.removeprefix(HEAD)):
        if number == _IPTC and not iptc:
            iptc = read_iptc(content)
        elif number in _KEPT and not holds_picture(content):
            others += whole
    return iptc, others


def read_iptc(data: bytes) -> bytes:
    """Return the datasets with captions, without previews. All datasets from a broken one on are left out."""
    kept, at = b"", 0
    while at + 5 <= len(data) and data[at] == _MARK:
        record, dataset, length = struct.unpack_from(">BBH", data, at + 1)
        end = at + 5 + length
        if length >= _LONG_LENGTH or end > len(data):
            break
        is_caption = record in _CAPTIONS and dataset < _FIRST_PREVIEW
        if is_caption and not holds_picture(data[at:end]) and len(kept) + end - at <= LONGEST_IPTC:
            kept += data[at:end]
        at = end
    return kept


def write_resources(iptc: bytes, others: bytes) -> bytes:
    """Return the body of a segment APP13; b"" without content."""
    if not (iptc or others):
        return b""
    block = _BLOCK + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + bytes(len(iptc) % 2) if iptc else b""
    return HEAD + block + others


def _blocks(body: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield number, content and all bytes of each resource."""
    at = 0
    for _ in range(_MOST_BLOCKS):
        if body[at : at + 4] != _BLOCK or at + 7 > len(body):
            return
        (number,) = struct.unpack_from(">H", body, at + 4)
        start = at + 6 + (body[at + 6] + 2) // 2 * 2  # a name with its length, padded to an even number
        if start + 4 > len(body):
            return
        (length,) = struct.unpack_from(">I", body, start)
        end = start + 4 + length
        if end > len(body):
            return
        yield number, body[start + 4 : end], body[at:end] + bytes(length % 2)
        at = end + length % 2
