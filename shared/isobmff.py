"""The boxes of HEIC and AVIF files (ISO 14496-12, ISO 23008-12): brand, colour code and hidden metadata."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_AVIF = frozenset({b"avif", b"avis"})
_HEIF = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"})
_METADATA = frozenset({b"Exif", b"mime", b"uri "})
_UNKNOWN = b"skip"
_APPLE_GAIN_MAP = b"hdrgainmap"  # urn:com:apple:photo:2020:aux:hdrgainmap
_LONGEST_METADATA, _LONGEST_LOCATIONS, _MOST_ITEMS, _MOST_PARTS = 128 * 1024, 1024**2, 4096, 64
_MOST_METADATA = 16  # items; a camera writes two
_CODE_BYTES = 7  # of a box `colr` with the type `nclx`: three numbers of 16 bits and a flag


@dataclass(frozen=True, slots=True)
class Box:
    """A box: its type, and where its body starts and ends in the file."""

    kind: bytes
    start: int
    end: int


def format_of(data: bytes) -> str | None:
    """Return AVIF or HEIF, or None for a file of another kind."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[at : at + 4] for at in (8, *range(16, end - 3, 4))}
    if brands & _AVIF:
        return "AVIF"
    return "HEIF" if brands & _HEIF else None


def is_whole(data: bytes) -> bool:
    """Return whether the outermost boxes end with the file or before: a file that was cut short has a longer one."""
    at = 0
    while at + 8 <= len(data):
        size, _ = _measure(data, at, len(data))
        if size < 8 or at + size > len(data):  # noqa: PLR2004 (length and type of a box)
            return False
        at += size
    return True


def hide_metadata(data: bytes) -> bytes:
    """Return the file with its EXIF and XMP under an unknown type, so that no decoder reads them or fails on them.

    Items with a type that is no text are hidden, too: pi-heif 1.4 crashes on them.
    """
    hidden = bytearray(data)
    for _, kind, at in items_of(data):
        if kind in _METADATA or not kind.isascii():
            hidden[at : at + 4] = _UNKNOWN
    return bytes(hidden)


def find_metadata(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each item with EXIF (`Exif`) or XMP data (`mime`). Broken items are left out."""
    items = (item for item in items_of(data) if item[1] in _METADATA)
    kinds = {number: kind for number, kind, _ in islice(items, _MOST_METADATA)}
    inner = next((box for box in boxes_in(data, b"meta") if box.kind == b"idat"), None)
    for number, method, parts in locations_of(data):
        if number in kinds and (method == 0 or inner is not None):
            base = inner.start if method and inner else 0
            yield kinds.pop(number), _join(data, base, parts)


def _join(data: bytes, base: int, parts: list[tuple[int, int]]) -> bytes:
    joined = bytearray()
    for start, length in parts:
        joined += data[base + start : base + start + min(length, _LONGEST_METADATA - len(joined))]
    return bytes(joined)


def items_of(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield number and kind of each item, and the place of its kind in the file."""
    for entry in boxes_in(data, b"meta", b"iinf"):
        if entry.kind != b"infe" or entry.end - entry.start < 12:  # noqa: PLR2004
            continue
        wide = data[entry.start] >= 3  # noqa: PLR2004 (the version: the item's number has four bytes)
        at = entry.start + 4
        kind_at = at + (4 if wide else 2) + 2  # behind the item's protection
        yield int.from_bytes(data[at : at + (4 if wide else 2)], "big"), data[kind_at : kind_at + 4], kind_at


def locations_of(data: bytes) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Yield number, method (0: in the file, 1: in the box `idat`) and parts of each item (ISO 14496-12, 8.11.3)."""
    box = next((box for box in boxes_in(data, b"meta") if box.kind == b"iloc"), None)
    if box is None:
        return
    reader = Numbers(data[box.start : min(box.end, box.start + _LONGEST_LOCATIONS)])
    version, _, sizes, more = reader.take(1), reader.take(3), reader.take(1), reader.take(1)
    for _ in range(min(reader.take(2 if version < 2 else 4), _MOST_ITEMS)):  # noqa: PLR2004
        number = reader.take(2 if version < 2 else 4)  # noqa: PLR2004
        method = reader.take(2) & 15 if version else 0
        reader.take(2)  # another file
        base, count = reader.take(more >> 4), reader.take(2)
        parts = []
        for _ in range(min(count, _MOST_PARTS)):
            reader.take(more & 15 if version else 0)
            parts.append((base + reader.take(sizes >> 4), reader.take(sizes & 15)))
        yield number, method, parts
        if reader.is_at_end:
            return


class Numbers:
    """Reads numbers one after another; beyond the end they are 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        """Return whether no byte is left."""
        return self._at >= len(self._data)

    def take(self, size: int) -> int:
        """Return the next number, of this many bytes."""
        return int.from_bytes(self.take_bytes(size), "big")

    def take_bytes(self, size: int) -> bytes:
        """Return the next bytes, which may be fewer at the end."""
        self._at += size
        return self._data[self._at - size : self._at]


def colour_code(data: bytes) -> tuple[int, int] | None:
    """Return the code points of primaries and transfer of the first picture (ITU-T H.273), None without them."""
    for box in boxes_in(data, b"meta", b"iprp", b"ipco"):
        at = box.start + 4
        if box.kind == b"colr" and data[box.start : at] == b"nclx" and box.end >= at + _CODE_BYTES:
            return int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def bits(data: bytes) -> int:
    """Return the bits a channel of an AVIF, as its first decoder configuration states them (AV1-ISOBMFF, 2.3)."""
    for box in boxes_in(data, b"meta", b"iprp", b"ipco"):
        if box.kind == b"av1C" and box.end - box.start >= 3:  # noqa: PLR2004
            flags = data[box.start + 2]
            return 12 if flags & 0x20 else 10 if flags & 0x40 else 8
    return 8


def has_gain_map(data: bytes) -> bool:
    """Return whether the file has a gain map: an item `tmap` (ISO 21496-1), or an auxiliary picture of Apple's."""
    for item in boxes_in(data, b"meta", b"iinf"):
        if item.kind == b"infe" and b"tmap" in data[item.start : min(item.end, item.start + 16)]:
            return True
    properties = boxes_in(data, b"meta", b"iprp", b"ipco")
    return any(box.kind == b"auxC" and _APPLE_GAIN_MAP in data[box.start : box.end] for box in properties)


def boxes_in(data: bytes, *path: bytes) -> Iterator[Box]:
    """Yield the boxes inside the box with this path; none if it is missing."""
    start, end = 0, len(data)
    for name in path:
        found = next((box for box in _boxes(data, start, end) if box.kind == name), None)
        if found is None:
            return
        start, end = found.start + _fields_bytes(data, found), found.end
    yield from _boxes(data, start, end)


def _fields_bytes(data: bytes, box: Box) -> int:
    """Return the number of bytes before the inner boxes: version and flags, and the count of entries."""
    if box.kind in {b"meta", b"iref"}:
        return 4
    if box.kind == b"iinf":
        return 6 if data[box.start : box.start + 1] == b"\0" else 8
    return 0


def _boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    at = start
    while at + 8 <= end:
        size, head = _measure(data, at, end)
        if size < head or at + size > end:
            return
        yield Box(data[at + 4 : at + 8], at + head, at + size)
        at += size


def _measure(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the length of a box and of its head. A length of 0 reaches to the end, 1 stands before a long one."""
    size = int.from_bytes(data[at : at + 4], "big")
    if size == 1:
        return int.from_bytes(data[at + 8 : at + 16], "big"), 16
    return (end - at if size == 0 else size), 8
