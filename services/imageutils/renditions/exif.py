"""Rebuilds EXIF data for an edited picture: only known tags are copied, so the data contain no earlier picture.

Thumbnails, previews in maker notes, private tags and unreferenced bytes are left out. Sources: TIFF 6.0, EXIF 2.32.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from services.imageutils.renditions.hidden_pictures import holds_picture

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_BYTES = 65_000
"""The longest block that is written: a segment of a JPEG holds 65,533 bytes."""
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
BYTE, SHORT, LONG, UNDEFINED = 1, 3, 4, 7
_MOST_ENTRIES, _LONGEST_VALUE = 1000, 60_000
_LONGEST_DIRECTORY = 2**20  # values may overlap, so a thousand values of 60 kB fit into one segment of a JPEG
_ENTRY_BYTES, _INLINE_BYTES, _HEADER_BYTES = 12, 4, 8
_WIDTH, _HEIGHT, _ORIENTATION, _THUMBNAIL_AT, _THUMBNAIL_BYTES = 0x0100, 0x0101, 0x0112, 0x0201, 0x0202
_X_RESOLUTION, _Y_RESOLUTION, _UNIT, _COMPRESSION = 0x011A, 0x011B, 0x0128, 0x0103
_CAMERA, _PLACE, _LINKS, _NOTE, _PIXEL_WIDTH, _PIXEL_HEIGHT = 0x8769, 0x8825, 0xA005, 0x927C, 0xA002, 0xA003
_XMP, _IPTC = 700, 33_723
# Descriptions of the picture and of the camera; none of them can hold a picture. See `_is_known`.
_MAIN = frozenset({
    _WIDTH, _HEIGHT, 0x010D, 0x010E, 0x010F, 0x0110, _ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT, 0x0131, 0x0132,
    0x013B, 0x013C, 0x0213, 0x4746, 0x4749, 0x8298, 0xC4A5, *range(0x9C9B, 0x9CA0),
})  # fmt: skip
_CAMERA_RANGES = ((0x829A, 0x829E), (0x8822, 0x8836), (0x9000, 0x9300), (0x9400, 0x9500), (0xA000, 0xA600))
_POINTERS = frozenset({_CAMERA, _PLACE, _LINKS})
_MOST_PLACE = 0x0020
_LINK_TAGS = frozenset({1, 2, 0x1000, 0x1001, 0x1002})  # EXIF 2.32, table 13: the directory may lie elsewhere
_TEXTS = frozenset({BYTE, 2, UNDEFINED})
_LONGEST_NUMBERS = 64  # bytes; eight fractions, more than any known tag has
# The only maker note that is known to work at another address and to contain no preview.
_KEPT_NOTE = b"Apple iOS\0"
_INCH_UNIT, _CENTIMETRE_UNIT, _CM_PER_INCH = 2, 3, 2.54


class Value(NamedTuple):
    """A value as it is in the file: its type, the number of its parts, and its bytes."""

    kind: int
    parts: int
    data: bytes


@dataclass(slots=True)
class Exif:
    """The known tags of EXIF data, by directory, in the byte order of the file (`<` or `>`).

    `xmp` and `iptc` are those of a TIFF, which stores them as tags.
    """

    order: str = "<"
    main: dict[int, Value] = field(default_factory=dict)
    camera: dict[int, Value] = field(default_factory=dict)
    place: dict[int, Value] = field(default_factory=dict)
    links: dict[int, Value] = field(default_factory=dict)
    had_thumbnail: bool = False
    xmp: bytes = b""
    iptc: bytes = b""

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to write."""
        return not (self.main or self.camera or self.place or self.links)

    def density(self) -> tuple[float, float] | None:
        """Return the stated pixels an inch, across and down; None without both."""
        values = [self._fraction(tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
        if None in values:
            return None
        unit = self._short(_UNIT, _INCH_UNIT)
        factor = {_INCH_UNIT: 1.0, _CENTIMETRE_UNIT: _CM_PER_INCH}.get(unit)
        across, down = (value or 0.0 for value in values)
        return None if factor is None or min(across, down) <= 0 else (across * factor, down * factor)

    def _fraction(self, tag: int) -> float | None:
        value = self.main.get(tag)
        if value is None or value.kind != 5 or value.parts != 1:  # noqa: PLR2004 (RATIONAL)
            return None
        above, below = struct.unpack(f"{self.order}II", value.data)
        return above / below if below else None

    def _short(self, tag: int, default: int) -> int:
        value = self.main.get(tag)
        return default if value is None or len(value.data) != 2 else struct.unpack(f"{self.order}H", value.data)[0]  # noqa: PLR2004


def read_exif(block: bytes) -> Exif:
    """Return the known tags of a TIFF block or file. Broken, long and unknown ones are left out."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < _HEADER_BYTES:
        return Exif()
    reader, exif = _Reader(block, order), Exif(order)
    (at,) = struct.unpack_from(f"{order}I", block, 4)
    main = reader.read(at)
    camera = reader.read(_address(order, main.get(_CAMERA)))
    places = reader.read(_address(order, main.get(_PLACE)))
    links = reader.read(_address(order, camera.get(_LINKS)))
    thumbnail = reader.read(_next(block, order, at))
    reader.claim_thumbnail(thumbnail)
    exif.main = {tag: value for tag, value in reader.distinct(main) if _is_known(tag, value, _MAIN)}
    exif.camera = {tag: value for tag, value in reader.distinct(camera) if _is_known(tag, value)}
    exif.place = {tag: value for tag, value in reader.distinct(places) if tag < _MOST_PLACE and _shows_nothing(value)}
    exif.links = {tag: value for tag, value in reader.distinct(links) if tag in _LINK_TAGS and _shows_nothing(value)}
    exif.had_thumbnail = _THUMBNAIL_AT in thumbnail
    exif.xmp, exif.iptc = (main[tag].value.data if tag in main else b"" for tag in (_XMP, _IPTC))
    return exif


def prepare(exif: Exif, size: tuple[int, int], *, place: bool, turned: bool) -> Exif:
    """Return the tags for an upright picture of this size, in pixels.

    Without `place`, GPS data and maker notes are left out. `turned`: the upload was stored sideways.
    """
    main, camera = dict(exif.main), dict(exif.camera)
    if _ORIENTATION in main:
        main[_ORIENTATION] = Value(SHORT, 1, struct.pack(f"{exif.order}H", 1))
    for tags, names in ((main, (_WIDTH, _HEIGHT)), (camera, (_PIXEL_WIDTH, _PIXEL_HEIGHT))):
        for tag, pixels in zip(names, size, strict=True):
            if tag in tags:
                tags[tag] = Value(LONG, 1, struct.pack(f"{exif.order}I", pixels))
    if turned and _X_RESOLUTION in main and _Y_RESOLUTION in main:
        main[_X_RESOLUTION], main[_Y_RESOLUTION] = main[_Y_RESOLUTION], main[_X_RESOLUTION]
    if not place:
        camera.pop(_NOTE, None)
    return replace(exif, main=main, camera=camera, place=exif.place if place else {}, xmp=b"", iptc=b"")


def write_exif(exif: Exif, thumbnail: bytes = b"") -> bytes:
    """Return a block of at most LONGEST_BYTES; b"" if there is nothing to state. The longest values go first."""
    if exif.is_empty:
        return b""
    directories = tuple(dict(each) for each in (exif.main, exif.camera, exif.place, exif.links))
    main, camera, place, links = directories
    exif = replace(exif, main=main, camera=camera, place=place, links=links)
    while _count_bytes(*directories) > LONGEST_BYTES:  # before a block is built: there may be many values to drop
        _drop_longest(*directories)
    while True:
        block = _Writer(exif.order).write(exif, thumbnail)
        if len(block) <= LONGEST_BYTES:
            return block
        if thumbnail:
            thumbnail = b""
        else:
            _drop_longest(*directories)


def write_file(exif: Exif, tags: dict[int, Value], strips: bytes) -> bytes:
    """Return a TIFF file: its header, the strips, and the directories with these further tags."""
    return _Writer(exif.order, strips).write(replace(exif, main={**exif.main, **tags}), b"")


def _count_bytes(*directories: dict[int, Value]) -> int:
    return sum(_ENTRY_BYTES + len(value.data) for values in directories for value in values.values())


def _drop_longest(*directories: dict[int, Value]) -> None:
    longest = max((d for d in directories if d), key=lambda d: max(len(value.data) for value in d.values()))
    del longest[max(longest, key=lambda tag: len(longest[tag].data))]


def _is_known(tag: int, value: Value, main: frozenset[int] = frozenset()) -> bool:
    if tag == _NOTE:
        return value.data.startswith(_KEPT_NOTE) and _shows_nothing(value)
    if value.kind not in _TEXTS and len(value.data) > _LONGEST_NUMBERS:
        return False
    known = tag in main or any(start <= tag < stop for start, stop in _CAMERA_RANGES)
    return known and tag not in _POINTERS and _shows_nothing(value)


def _shows_nothing(value: Value) -> bool:
    return not holds_picture(value.data)


def _address(order: str, found: _Found | None) -> int:
    if found is None or found.value.parts != 1 or found.value.kind not in {LONG, 13}:
        return 0
    return int(struct.unpack(f"{order}I", found.value.data)[0])


def _next(block: bytes, order: str, at: int) -> int:
    """Return the address of the directory after the one at `at`, 0 without one."""
    if not 0 < at <= len(block) - 2:
        return 0
    end = at + 2 + _ENTRY_BYTES * struct.unpack_from(f"{order}H", block, at)[0]
    return int(struct.unpack_from(f"{order}I", block, end)[0]) if end + 4 <= len(block) else 0


class _Found(NamedTuple):
    """A value, and the range of its bytes in the block, which is empty for a value inside its entry."""

    value: Value
    start: int
    stop: int


class _Reader:
    """Reads directories. A value that overlaps other data is damaged, and could contain a part that must be dropped."""

    def __init__(self, block: bytes, order: str) -> None:
        self._block = block
        self._order = order
        self._claims: list[tuple[int, int]] = []

    def read(self, at: int) -> dict[int, _Found]:
        """Return the entries of a directory with values that lie in the block."""
        found = list(self._entries(at))
        if found:
            self._claims.append((at, at + 2 + _ENTRY_BYTES * len(found)))
            self._claims += [(each.start, each.stop) for _, each in found if each.start < each.stop]
        return dict(found)

    def claim_thumbnail(self, directory: dict[int, _Found]) -> None:
        """Note the bytes of the thumbnail that a directory states."""
        start = _address(self._order, directory.get(_THUMBNAIL_AT))
        length = _address(self._order, directory.get(_THUMBNAIL_BYTES))
        if start and length:
            self._claims.append((start, start + length))

    def distinct(self, directory: dict[int, _Found]) -> Iterator[tuple[int, Value]]:
        """Yield the values that overlap no other value. Two equal numbers may be at one place: some writers do that."""
        shared = self._find_shared()
        for tag, found in directory.items():
            if (found.start, found.stop) not in shared:
                yield tag, found.value

    def _find_shared(self) -> set[tuple[int, int]]:
        short = {claim for claim in self._claims if claim[1] - claim[0] <= _LONGEST_NUMBERS}
        claims = sorted([*short, *(claim for claim in self._claims if claim not in short)])
        shared = set[tuple[int, int]]()
        farthest = (0, 0)
        for claim in claims:
            if claim[0] < farthest[1]:
                shared |= {claim, farthest}
            farthest = max(farthest, claim, key=lambda each: each[1])
        return shared

    def _entries(self, at: int) -> Iterator[tuple[int, _Found]]:
        block, order = self._block, self._order
        if not 0 < at <= len(block) - 2:
            return
        (count,) = struct.unpack_from(f"{order}H", block, at)
        total = 0
        for entry in range(at + 2, at + 2 + min(count, _MOST_ENTRIES) * _ENTRY_BYTES, _ENTRY_BYTES):
            if entry + _ENTRY_BYTES > len(block):
                return
            tag, kind, parts = struct.unpack_from(f"{order}HHI", block, entry)
            length = _TYPE_BYTES.get(kind, 4 if kind == 13 else 0) * parts  # noqa: PLR2004 (IFD, as LONG)
            inline = length <= _INLINE_BYTES
            start = entry + 8 if inline else struct.unpack_from(f"{order}I", block, entry + 8)[0]
            if 0 < length <= min(_LONGEST_VALUE, _LONGEST_DIRECTORY - total) and start + length <= len(block):
                total += length
                value = Value(kind, parts, bytes(block[start : start + length]))
                yield tag, _Found(value, start, start if inline else start + length)


class _Writer:
    """Writes directories one after another, each before its values."""

    def __init__(self, order: str, before: bytes = b"") -> None:
        """`before` is put between the header and the directories."""
        self._order = order
        before += bytes(len(before) % 2)
        head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, _HEADER_BYTES + len(before))
        self._block = bytearray(head) + before

    def write(self, exif: Exif, thumbnail: bytes) -> bytes:
        """Return the block: the main directory, then those that it names, then the thumbnail's."""
        names = {tag for tag, content in ((_CAMERA, exif.camera or exif.links), (_PLACE, exif.place)) if content}
        at, following = self._add(exif.main, names)
        if _CAMERA in at:
            self._point(at[_CAMERA])
            inner, _ = self._add(exif.camera, {_LINKS} if exif.links else set())
            if exif.links:
                self._point(inner[_LINKS])
                self._add(exif.links, set())
        if _PLACE in at:
            self._point(at[_PLACE])
            self._add(exif.place, set())
        if thumbnail:
            self._point(following)
            self._add_thumbnail(thumbnail)
        return bytes(self._block)

    def _add(self, values: dict[int, Value], pointers: set[int]) -> tuple[dict[int, int], int]:
        """Add a directory. Return the positions for the addresses of `pointers` and of the next directory."""
        entries = {**values, **dict.fromkeys(pointers, Value(LONG, 1, bytes(4)))}
        start = len(self._block)
        head, body, places = bytearray(struct.pack(f"{self._order}H", len(entries))), bytearray(), dict[int, int]()
        after = start + 2 + _ENTRY_BYTES * len(entries) + 4
        for tag, value in sorted(entries.items()):
            if tag in pointers:
                places[tag] = start + len(head) + 8
            stored = value.data.ljust(_INLINE_BYTES, b"\0")
            if len(value.data) > _INLINE_BYTES:
                stored = struct.pack(f"{self._order}I", after + len(body))
                body += value.data + bytes(len(value.data) % 2)
            head += struct.pack(f"{self._order}HHI", tag, value.kind, value.parts) + stored
        self._block += head + bytes(4) + body
        return places, start + len(head)

    def _add_thumbnail(self, jpeg: bytes) -> None:
        values = {
            _COMPRESSION: Value(SHORT, 1, struct.pack(f"{self._order}H", 6)),
            _THUMBNAIL_BYTES: Value(LONG, 1, struct.pack(f"{self._order}I", len(jpeg))),
        }
        places, _ = self._add(values, {_THUMBNAIL_AT})
        self._point(places[_THUMBNAIL_AT])
        self._block += jpeg

    def _point(self, at: int) -> None:
        """Write the present end of the block as an address."""
        struct.pack_into(f"{self._order}I", self._block, at, len(self._block))
