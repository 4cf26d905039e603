"""Reads the metadata of an upload for its renditions. Broken metadata are left out and do not fail the rendition."""

from __future__ import annotations

import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from services.imageutils.renditions import exif as exif_data
from services.imageutils.renditions.exif import Exif, read_exif
from services.imageutils.renditions.hidden_pictures import holds_picture, holds_picture_as_text
from services.imageutils.renditions.photoshop import HEAD as PHOTOSHOP
from services.imageutils.renditions.photoshop import read_iptc, read_resources
from shared import isobmff, jpeg, png_chunks, xmp
from shared.errors import BadImage
from shared.orientation import SIDEWAYS, orientation_of

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIF_HEAD = b"Exif\0\0"
_JFIF = b"JFIF\0"
_APP0, _APP1, _APP13, _SCAN = 0xE0, 0xE1, 0xED, 0xDA
_MOST_SEGMENTS, _MOST_CHUNKS = 4096, 65_536
_BMP_FILE_HEADER_BYTES, _BMP_INFO_HEADER_BYTES, _BMP_DENSITY_AT = 14, 40, 38  # BITMAPINFOHEADER (Microsoft)
_INCH, _CENTIMETRE, _CM_PER_INCH, _INCHES_PER_METRE = 1, 2, 2.54, 0.0254
# The keywords of the PNG specification (11.3.3.2) for texts that describe the picture.
_TEXTS = frozenset({b"Title", b"Author", b"Description", b"Copyright", b"Creation Time", b"Software", b"Source",
                    b"Disclaimer", b"Warning", b"Comment"})  # fmt: skip
_PIXEL_CHUNKS = frozenset({b"IDAT", b"fdAT", b"fcTL"})
_LONGEST_TEXT, _LONGEST_TEXTS = 8192, 65_536
_BROKEN = (BadImage, ValueError, IndexError, struct.error, zlib.error, OverflowError, MemoryError)


# Drones and GPS loggers use their own names for the place; some misspell longitude.
_PLACE_NAMES = re.compile(r"gps|latitude|longi?t|altitude|geotag", re.IGNORECASE)
# W3C Basic Geo: lat, long, alt, lat_long. The names alone would match rdf:Alt, which holds each title.
_PLACE_NAMESPACE = "http://www.w3.org/2003/01/geo/wgs84_pos"


@dataclass(slots=True)
class Carried:
    """The metadata of an upload. `density` is pixels an inch, across and down, as the upload stores its picture.

    `resources` are further Photoshop resources, `texts` the text chunks of a PNG. `turned` is whether the upload was
    stored sideways.
    """

    exif: Exif = field(default_factory=Exif)
    xmp: bytes = b""
    iptc: bytes = b""
    resources: bytes = b""
    texts: list[tuple[bytes, bytes]] = field(default_factory=list)
    density: tuple[float, float] | None = None
    turned: bool = False


def read_carried(data: bytes, kind: str) -> Carried:
    """Return the metadata of a file of this format, named as in shared/image_formats.py."""
    carried = Carried()
    reader = _READERS.get(kind)
    if reader is not None:
        with suppress(*_BROKEN):
            reader(data, carried)
    if carried.density is None:
        carried.density = carried.exif.density()
    return carried


def prepare(carried: Carried, size: tuple[int, int], *, place: bool, made_by: bytes = b"") -> Carried:
    """Return the metadata for the upright, edited picture of this size, in pixels.

    Without `place` they do not contain the place of the photo. `made_by` is the XMP packet of the stored result: its
    statement about the kind of the picture (IPTC digitalSourceType) replaces the upload's.
    """
    source_type = xmp.read_property(made_by, xmp.DIGITAL_SOURCE_TYPE) if made_by else None
    values = {} if source_type is None else {xmp.DIGITAL_SOURCE_TYPE: source_type}
    removals = (xmp.is_obsolete,) if place else (xmp.is_obsolete, xmp.is_location, _names_place)
    packet = carried.xmp if carried.xmp and not holds_picture_as_text(carried.xmp) else None
    density = carried.density[::-1] if carried.density and carried.turned else carried.density
    return replace(
        carried,
        exif=exif_data.prepare(carried.exif, size, place=place, turned=carried.turned),
        xmp=xmp.merge(packet, values, *removals),
        density=density,
        turned=False,
    )


def _names_place(namespace: str, name: str) -> bool:
    return namespace.startswith(_PLACE_NAMESPACE) or _PLACE_NAMES.search(name) is not None


def _read_jpeg(data: bytes, carried: Carried) -> None:
    block: bytes | None = None
    for number, (marker, start, end) in enumerate(jpeg.find_segments(data)):
        if marker == _SCAN or number > _MOST_SEGMENTS:
            break
        body = data[start + 4 : end]
        if marker == _APP0 and body.startswith(_JFIF):
            carried.density = _jfif_density(body)
        elif marker == _APP1 and block is None and body.startswith(EXIF_HEAD[:5]):
            block = body[len(EXIF_HEAD) :]
        elif marker == _APP1 and not carried.xmp and body.startswith(jpeg.XMP_HEAD):
            carried.xmp = body[len(jpeg.XMP_HEAD) :]
        elif marker == _APP13 and not carried.iptc and body.startswith(PHOTOSHOP):
            carried.iptc, carried.resources = read_resources(body)
    if block:
        carried.turned = orientation_of(block) in SIDEWAYS
        carried.exif = read_exif(block)


def _jfif_density(body: bytes) -> tuple[float, float] | None:
    unit, across, down = struct.unpack_from(">BHH", body, 7)
    factor = {_INCH: 1.0, _CENTIMETRE: _CM_PER_INCH}.get(unit)
    return None if factor is None or not (across and down) else (across * factor, down * factor)


def _read_png(data: bytes, carried: Carried) -> None:
    long = 0
    for found in png_chunks.find_chunks(data):
        if found.kind in _PIXEL_CHUNKS:
            continue
        kind, content = found.kind, bytes(found.body)
        if kind == b"pHYs" and len(content) == 9 and content[8] == 1:  # noqa: PLR2004 (two numbers and a unit: metre)
            carried.density = _metric_density(*struct.unpack_from(">II", content))
        elif kind == b"eXIf" and carried.exif.is_empty:
            carried.turned = orientation_of(content) in SIDEWAYS
            carried.exif = read_exif(content)
        elif kind == b"iTXt" and content.startswith(xmp.PNG_KEYWORD + b"\0"):
            carried.xmp = carried.xmp or read_text(content)
        elif kind in {b"tEXt", b"iTXt"} and content.partition(b"\0")[0] in _TEXTS and len(content) <= _LONGEST_TEXT:
            long += len(content)
            carried.texts += [(kind, content)] * (long <= _LONGEST_TEXTS and not holds_picture(content))


def _metric_density(across: int, down: int) -> tuple[float, float] | None:
    """Return pixels an inch for pixels a metre; None unless both are stated."""
    return (across * _INCHES_PER_METRE, down * _INCHES_PER_METRE) if min(across, down) > 0 else None


def read_text(content: bytes) -> bytes:
    """Return the text of a chunk iTXt; b"" if it is too long or broken (PNG specification, 11.3.3.4)."""
    _, _, rest = content.partition(b"\0")
    _, _, rest_text = rest[2:].partition(b"\0")  # after the flags the language, then the translated keyword
    _, _, text = rest_text.partition(b"\0")
    if rest[:1] == b"\1":
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(text, xmp.LONGEST_BYTES + 1)
    return text if len(text) <= xmp.LONGEST_BYTES else b""


def _read_webp(data: bytes, carried: Carried) -> None:
    for kind, content in _riff_chunks(data):
        if kind == b"EXIF" and carried.exif.is_empty:
            carried.exif = read_exif(content.removeprefix(EXIF_HEAD))
        elif kind == b"XMP " and not carried.xmp:
            carried.xmp = content


def is_lossless_webp(data: bytes) -> bool:
    """Return whether the picture of a WebP was encoded without loss (RFC 9649, 2.6)."""
    return any(kind == b"VP8L" for kind, _ in _riff_chunks(data))


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the chunks of a WebP; the content only of metadata."""
    at = 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        yield kind, data[at + 8 : at + 8 + length] if kind in {b"EXIF", b"XMP "} else b""
        at += 8 + length + length % 2


def _read_tiff(data: bytes, carried: Carried) -> None:
    carried.turned = orientation_of(data) in SIDEWAYS
    carried.exif = read_exif(data)
    carried.xmp, carried.iptc = carried.exif.xmp, read_iptc(carried.exif.iptc)


def _read_bmp(data: bytes, carried: Carried) -> None:
    (header_bytes,) = struct.unpack_from("<I", data, _BMP_FILE_HEADER_BYTES)
    if header_bytes >= _BMP_INFO_HEADER_BYTES:
        carried.density = _metric_density(*struct.unpack_from("<ii", data, _BMP_DENSITY_AT))


def _read_boxes(data: bytes, carried: Carried) -> None:
    for kind, content in isobmff.find_metadata(data):
        if kind == b"Exif" and carried.exif.is_empty:
            at = 4 + int.from_bytes(content[:4], "big")
            carried.exif = read_exif(content[at:])
        elif kind == b"mime" and not carried.xmp and b"xmpmeta" in content:
            carried.xmp = content


_READERS = {"JPEG": _read_jpeg, "PNG": _read_png, "WEBP": _read_webp, "TIFF": _read_tiff, "AVIF": _read_boxes,
            "HEIF": _read_boxes, "BMP": _read_bmp}  # fmt: skip
