"""Counts the parts of an image file (scans, segments, chunks, tags) before a decoder parses it.

A small file can hold millions of empty parts. Pillow runs Python code and keeps an object for each of them, and libjpeg
goes through all pixels for each scan: a JPEG of 885 kB with 8,000 empty scans took 148 s. EXIF data are not counted: no
decoder gets them (`shared/image_source.py`), and their reader is bounded by their length. The bounds are far above what
cameras and programs write. Each walk is linear in the size of the file, stops at the bound and copies nothing; it
reads a damaged file as leniently as Pillow does, and leaves the error to Pillow.

Sources: JPEG: ITU-T T.81, B.1.1 and B.2; PNG: third edition, 5.3; GIF89a: 18 to 26; TIFF 6.0,
section 2; WebP container: RFC 9649, 2.3; BMP: BITMAPINFOHEADER; ICO: ICONDIR; AVIF and HEIF: ISO/IEC 14496-12, 4.2.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from shared.errors import BadImage

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SCANS: Final = 100  # libjpeg writes 10; libtiff has the same limit; an empty one costs 18 ms at 64 megapixels
MAX_ARITHMETIC_SCANS: Final = 20  # the arithmetic decoder of libjpeg computes every coefficient of an empty scan
MAX_SEGMENTS: Final = 2000  # before the pixels; a depth map or a panorama takes a hundred of 64 kB
MAX_TABLE_BYTES: Final = 16_384  # frame headers and quantisation tables; a file needs 600
MAX_PHOTOSHOP_BLOCKS: Final = 4096
MAX_JUNK_BYTES: Final = 65_536  # between parts; Pillow reads them one by one
MAX_CHUNKS: Final = 65_536  # a PNG of 64 MB in pieces of 8 kB has 8,192
MAX_OTHER_CHUNKS: Final = 4096  # chunks that hold no pixels
MAX_COMPRESSED_CHUNKS: Final = 256  # Pillow unpacks 1 MB of each
MAX_BLOCKS: Final = 1_000_000  # a GIF of 64 MB in blocks of 255 bytes has 263,000
MAX_OTHER_BLOCKS: Final = 100_000  # blocks that hold no pixels
MAX_FRAMES: Final = 20_000
MAX_DIRECTORIES: Final = 4096  # pages
MAX_TAGS: Final = 4096  # of one directory; the same limit as libtiff's
MAX_ALL_TAGS: Final = 65_536  # of all pages
MAX_TAG_VALUES: Final = 262_144  # of one tag; 64 megapixels in tiles of 16 x 16
MAX_FRACTIONS: Final = 4096  # Pillow makes an object of 500 bytes of each
MAX_ICONS: Final = 256
MAX_ICON_SIDE_PX: Final = 1024
MAX_RLE_BYTES, MAX_RLE_PIXELS = 4 * 1024**2, 4_000_000  # Pillow unpacks them in Python
MAX_BOXES: Final = 4096

_SOS, _EOI, _DQT, _APP13, _TEM = 0xDA, 0xD9, 0xDB, 0xED, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ARITHMETIC = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_WITHOUT_LENGTH = frozenset({*range(0xD0, 0xDA), 0xC8, *range(0xF0, 0xFE)})  # as Pillow reads them
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # restart markers belong to the scan
_PNG = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = frozenset({b"IDAT", b"fdAT", b"fcTL"})
_COMPRESSED_CHUNKS = frozenset({b"iCCP", b"zTXt", b"iTXt"})
_GIF_PART = re.compile(rb"[!,;]")
_TIFF_MAGIC = (b"MM\0*", b"II*\0", b"MM*\0", b"II\0*", b"MM\0+", b"II+\0")
_FRACTIONS, _NUMBERS = frozenset({5, 10}), frozenset({3, 4, 8, 9, 11, 12, 13, 16, 17, 18})
_SUB_DIRECTORIES = frozenset({0x8769, 0x8825, 0xA005})  # EXIF, GPS, interoperability
# Boxes that contain boxes, and the bytes before the first one (`iinf` of version 0)
_BOXES_OF_BOXES = {b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"iprp": 0, b"ipco": 0, b"meta": 4,
                   b"iref": 4, b"iinf": 6}  # fmt: skip


def check_structure(data: bytes) -> None:
    """Refuse a file with more parts than any camera or program writes. Raises BadImage.

    Call this before a decoder opens the file. A file of an unknown format passes: no decoder takes it.
    """
    count = _find_counter(data)
    if count is not None:
        try:
            count(data)
        except (struct.error, IndexError):
            return  # cut short: the decoder reports it


def _find_counter(data: bytes) -> Callable[[bytes], None] | None:
    counters: dict[bytes | tuple[bytes, ...], Callable[[bytes], None]] = {
        b"\xff\xd8\xff": _count_jpeg,
        _PNG: _count_png,
        (b"GIF87a", b"GIF89a"): _count_gif,
        _TIFF_MAGIC: _count_tags,
        b"BM": _check_bmp,
        b"\0\0\1\0": _count_ico,
    }
    for magic, count in counters.items():
        if data.startswith(magic):
            return count
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _count_webp
    return _count_boxes if data[4:8] == b"ftyp" else None


def _at_most(limit: int, number: int, parts: str) -> None:
    if number > limit:
        raise BadImage(f"The file has more than {limit:,} {parts}. Save it again with an image editor.")


# --- JPEG ---------------------------------------------------------------------------------------------------------


def _count_jpeg(data: bytes) -> None:
    header = _JpegHeader(data)
    at = header.read()
    if at is not None:
        _count_scans(data, at, MAX_ARITHMETIC_SCANS if header.arithmetic else MAX_SCANS)


class _JpegHeader:
    """The segments before the first scan, counted as Pillow reads them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._segments = self._junk = self._table_bytes = self._blocks = 0
        self.arithmetic = False

    def read(self) -> int | None:
        """Return the position of the first scan; None if the file has none. Raises BadImage."""
        at = 2
        while (found := _MARKER.search(self._data, at)) is not None:
            self._junk += found.start() - at
            _at_most(MAX_JUNK_BYTES, self._junk, "bytes between its JPEG segments")
            self._segments += 1
            _at_most(MAX_SEGMENTS, self._segments, "JPEG segments before its pixels")
            marker, at = self._data[found.end() - 1], found.end()
            if marker == _SOS:
                return found.start()
            if marker not in _WITHOUT_LENGTH:
                length = max(2, *struct.unpack_from(">H", self._data, at))
                self._count_segment(marker, at + 2, at + length)
                at += length
        return None

    def _count_segment(self, marker: int, start: int, end: int) -> None:
        if marker in _FRAMES or marker == _DQT:
            self.arithmetic |= marker in _ARITHMETIC
            self._table_bytes += end - start
            _at_most(MAX_TABLE_BYTES, self._table_bytes, "bytes of JPEG tables")
        elif marker == _APP13:
            self._blocks += self._data.count(b"8BIM", start, end)
            _at_most(MAX_PHOTOSHOP_BLOCKS, self._blocks, "Photoshop blocks")


def _count_scans(data: bytes, at: int, limit: int) -> None:
    """Count the scans from the first one on. `bytes.count` decides almost every file at the speed of memory."""
    if data.count(b"\xff\xda", at) <= limit:
        return
    scans = 0
    while (found := _MARKER_IN_SCAN.search(data, at)) is not None:
        marker, at = data[found.end() - 1], found.end()
        if marker == _EOI or marker in _WITHOUT_LENGTH:
            return  # the end; libjpeg refuses the others
        scans += marker == _SOS
        _at_most(limit, scans, "JPEG scans")
        if marker != _TEM:
            at += max(2, *struct.unpack_from(">H", data, at))


# --- PNG ----------------------------------------------------------------------------------------------------------


def _count_png(data: bytes) -> None:
    _PngChunks().count(data, 0)


class _PngChunks:
    """The chunks of one PNG, or of all that an ICO holds."""

    def __init__(self) -> None:
        self._chunks = self._others = self._compressed = 0

    def count(self, data: bytes, start: int) -> None:
        """Count the chunks of the PNG that begins at `start`. Raises BadImage."""
        at = start + 8
        while at + 8 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            self._chunks += 1
            _at_most(MAX_CHUNKS, self._chunks, "PNG chunks")
            if kind not in _PIXEL_CHUNKS:
                self._others += 1
                self._compressed += kind in _COMPRESSED_CHUNKS
                _at_most(MAX_OTHER_CHUNKS, self._others, "PNG chunks without pixels")
                _at_most(MAX_COMPRESSED_CHUNKS, self._compressed, "compressed texts and profiles")
            at += 12 + length


# --- GIF ----------------------------------------------------------------------------------------------------------


def _count_gif(data: bytes) -> None:
    at = 13 + _palette_bytes(data[10])
    frames = blocks = others = junk = 0
    while (found := _GIF_PART.search(data, at)) is not None and found.group() != b";":
        junk += found.start() - at
        _at_most(MAX_JUNK_BYTES, junk, "bytes between its GIF blocks")
        at = found.end()
        if found.group() == b",":
            frames += 1
            at += 10 + _palette_bytes(data[at + 8])
        else:
            at += 1
        ended, new = _skip_blocks(data, at, MAX_BLOCKS - blocks)
        blocks += new + 1
        others += new + 1 if found.group() == b"!" else 0
        _at_most(MAX_FRAMES, frames, "GIF frames")
        _at_most(MAX_OTHER_BLOCKS, others, "GIF blocks without pixels")
        _at_most(MAX_BLOCKS, blocks, "GIF blocks")
        at = ended


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def _skip_blocks(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """Return the position after a sequence of sub-blocks, and their number, which exceeds the limit by one at most."""
    number = 0
    while number <= limit and at < len(data) and data[at]:
        at += 1 + data[at]
        number += 1
    return at + 1, number


# --- TIFF ---------------------------------------------------------------------------------------------------------


class _Layout:
    """Byte order and sizes of the fields of TIFF and of BigTIFF."""

    def __init__(self, data: bytes) -> None:
        order = ">" if data[:2] == b"MM" else "<"
        big = b"+" in data[2:4]
        self.number = struct.Struct(order + ("Q" if big else "H"))
        self.offset = struct.Struct(order + ("Q" if big else "I"))
        self.tag = struct.Struct(order + ("HHQQ" if big else "HHII"))
        self.first = 8 if big else 4


def _count_tags(data: bytes) -> None:
    """Count the directories of a file, their tags and the values of each."""
    if not data.startswith(_TIFF_MAGIC):
        return
    layout = _Layout(data)
    (first,) = layout.offset.unpack_from(data, layout.first)
    waiting, seen, total = [first], set[int](), 0
    while waiting:
        at = waiting.pop()
        if at in seen or not 0 < at <= len(data) - layout.number.size:
            continue
        seen.add(at)
        _at_most(MAX_DIRECTORIES, len(seen), "pages or directories in its TIFF")
        (tags,) = layout.number.unpack_from(data, at)
        total += tags
        _at_most(MAX_TAGS, tags, "tags in a directory of its TIFF")
        _at_most(MAX_ALL_TAGS, total, "tags in its TIFF")
        start = at + layout.number.size
        end = start + tags * layout.tag.size
        waiting += _count_values(data[start:end], layout)
        if end + layout.offset.size <= len(data):
            waiting += layout.offset.unpack_from(data, end)


def _count_values(tags: bytes, layout: _Layout) -> list[int]:
    """Count the values of each tag of one directory; return the offsets of its sub-directories."""
    offsets = []
    for tag, kind, number, value in layout.tag.iter_unpack(tags[: len(tags) // layout.tag.size * layout.tag.size]):
        if kind in _NUMBERS:
            _at_most(MAX_TAG_VALUES, number, "values in a tag of its TIFF")
        elif kind in _FRACTIONS:
            _at_most(MAX_FRACTIONS, number, "fractions in a tag of its TIFF")
        if tag in _SUB_DIRECTORIES:
            offsets.append(value)
    return offsets


# --- WebP, BMP, ICO, AVIF and HEIF --------------------------------------------------------------------------------


def _count_webp(data: bytes) -> None:
    at, chunks = 12, 0
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        chunks += 1
        _at_most(MAX_FRAMES, chunks, "WebP chunks")
        at += 8 + length + length % 2


def _check_bmp(data: bytes) -> None:
    """Refuse large run-length encoded files: Pillow unpacks them byte by byte in Python."""
    header, width, height, _, _, compression = struct.unpack_from("<IiiHHI", data, 14)
    if header > 12 and compression in {1, 2}:  # noqa: PLR2004 (a header of 12 bytes knows no compression)
        _at_most(MAX_RLE_BYTES, len(data), "bytes and is a run-length encoded BMP")
        _at_most(MAX_RLE_PIXELS, abs(width * height), "pixels and is a run-length encoded BMP")


def _count_ico(data: bytes) -> None:
    """Check every picture of an icon: Pillow finds its true size only when it decodes it."""
    (number,) = struct.unpack_from("<H", data, 4)
    _at_most(MAX_ICONS, number, "pictures in its ICO")
    chunks = _PngChunks()
    for (start,) in {struct.unpack_from("<I", data, 6 + 16 * entry + 12) for entry in range(number)}:
        if start + 24 > len(data):
            continue  # Pillow may take another one
        if data.startswith(_PNG, start):
            width, height = struct.unpack_from(">II", data, start + 16)
            chunks.count(data, start)
        else:
            width, height = struct.unpack_from("<II", data, start + 4)
        _at_most(MAX_ICON_SIDE_PX, max(width, height // 2), "pixels a side in its ICO")


def _count_boxes(data: bytes) -> None:
    waiting, boxes = [(0, len(data))], 0
    while waiting:
        at, end = waiting.pop()
        while at + 8 <= end:
            size, kind = struct.unpack_from(">I4s", data, at)
            boxes += 1
            _at_most(MAX_BOXES, boxes, "AVIF or HEIF boxes")
            body = at + 8
            if size == 1:
                (size,) = struct.unpack_from(">Q", data, body)
                body += 8
            stop = end if size == 0 else min(end, at + size)
            if stop < body:
                break
            if kind in _BOXES_OF_BOXES:
                # `iinf` counts in four bytes from version 1 on.
                waiting.append((body + _BOXES_OF_BOXES[kind] + 2 * (kind == b"iinf" and data[body] > 0), stop))
            at = stop
