"""Encodes a JPEG as its upload was encoded, and puts metadata into it (ITU-T T.81, ISO 16684-3, ICC.1 annex B.4)."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import ImageChops, JpegImagePlugin

from services.imageutils.renditions.carried import EXIF_HEAD
from services.imageutils.renditions.photoshop import write_resources
from shared.errors import ArtMancerError
from shared.image_source import open_source
from shared.jpeg import PROFILE_HEAD, XMP_HEAD
from shared.orientation import SIDEWAYS

if TYPE_CHECKING:
    from PIL import Image

    from services.imageutils.renditions.carried import Carried

DEFAULT_QUALITY = 95
_COARSE_QUALITY = 90  # below it, colours are halved in both directions if the upload's subsampling is unknown
_FULL, _HALVED_ACROSS, _HALVED_BOTH = 0, 1, 2  # as Pillow numbers the subsamplings
_SAMPLINGS = {(1, 1): _FULL, (2, 1): _HALVED_ACROSS, (2, 2): _HALVED_BOTH}
_LONGEST_SEGMENT = 65_533
_LONGEST_ICC_PART = _LONGEST_SEGMENT - len(PROFILE_HEAD) - 2
_APP1, _APP2, _APP13 = 0xE1, 0xE2, 0xED
_RGB_NAMES = (82, 71, 66)  # components of a JPEG that holds R, G and B
_LARGEST_STEP = 255  # limit of a baseline table


@dataclass(frozen=True, slots=True)
class Coding:
    """How a JPEG is encoded: quantisation tables with the subsampling, or None for both if they cannot be used."""

    tables: tuple[tuple[int, ...], ...] | None = None
    sampling: int | None = None
    grey: bool = False
    progressive: bool = False


def read_coding(upload: bytes) -> Coding:
    """Return the coding of an upload, as it is for the picture turned upright.

    The tables of a CMYK or RGB JPEG, or of one with an unusual subsampling, are not used.
    """
    with suppress(ArtMancerError), open_source(upload) as source:
        image = source.image
        if not isinstance(image, JpegImagePlugin.JpegImageFile):
            return Coding()
        grey, progressive = image.mode == "L", bool(image.info.get("progressive"))
        layers: list[tuple[int, int, int, int]] = image.layer
        tables = image.quantization
        sampling = _sampling(image)
        if sampling is None or any(layer[3] not in tables for layer in layers):
            return Coding(grey=grey, progressive=progressive)
        chosen = [tuple(min(max(step, 1), _LARGEST_STEP) for step in tables[layer[3]]) for layer in layers]
        if chosen[1:2] == chosen[2:]:  # both colour components share one table, as in nearly every file
            del chosen[2:]
        if source.orientation in SIDEWAYS:  # the photo was turned upright, and its blocks with it
            chosen = [_transpose(table) for table in chosen]
            sampling = _FULL if sampling == _HALVED_ACROSS else sampling  # Pillow does not halve colours down alone
        return Coding(tuple(chosen), sampling, grey, progressive)
    return Coding()


def _transpose(table: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(table[8 * column + row] for row in range(8) for column in range(8))


def _sampling(image: JpegImagePlugin.JpegImageFile) -> int | None:
    """Return Pillow's number of the subsampling; None if Pillow has none, or if the components are not Y, Cb, Cr."""
    layers: list[tuple[int, int, int, int]] = image.layer
    if image.mode == "L":
        return _FULL
    is_rgb = tuple(layer[0] for layer in layers) == _RGB_NAMES or image.info.get("adobe_transform") == 0
    if image.mode != "RGB" or is_rgb or any(layer[1:3] != (1, 1) for layer in layers[1:]):
        return None
    return _SAMPLINGS.get((layers[0][1], layers[0][2]))


def encode_jpeg(image: Image.Image, coding: Coding, quality: int | None, density: tuple[float, float] | None) -> bytes:
    """Encode an RGB or grey picture. A `quality` (1 to 100) replaces the tables; the subsampling stays."""
    options: dict[str, Any] = {"progressive": coding.progressive}
    if coding.grey and image.mode == "RGB" and _is_grey(image):
        image = image.getchannel(0)
    tables = coding.tables if quality is None else None
    if tables is not None and (len(tables) > 1 or image.mode == "L"):
        options |= {"qtables": [list(table) for table in tables], "subsampling": coding.sampling}
    else:
        quality = quality or DEFAULT_QUALITY
        coarse = _HALVED_BOTH if quality < _COARSE_QUALITY else _FULL
        options |= {"quality": quality, "subsampling": coarse if coding.sampling is None else coding.sampling}
    if density is not None:
        options["dpi"] = tuple(max(1, min(round(each), 65_535)) for each in density)
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def _is_grey(image: Image.Image) -> bool:
    red = image.getchannel(0)
    return all(ImageChops.difference(red, image.getchannel(other)).getbbox() is None for other in (1, 2))


def add_metadata(jpeg: bytes, carried: Carried, exif: bytes, icc: bytes | None) -> bytes:
    """Insert metadata after the JFIF header, in the order of cameras; data too long for a segment are left out."""
    start = 4 + struct.unpack_from(">H", jpeg, 4)[0]  # after the JFIF segment, which Pillow always writes
    parts = [memoryview(jpeg)[:start]]
    if exif:
        parts.append(_segment(_APP1, EXIF_HEAD + exif))
    if carried.xmp:
        parts.append(_segment(_APP1, XMP_HEAD + carried.xmp))
    if captions := write_resources(carried.iptc, carried.resources):
        parts.append(_segment(_APP13, captions))
    pieces = [(icc or b"")[at : at + _LONGEST_ICC_PART] for at in range(0, len(icc or b""), _LONGEST_ICC_PART)]
    if len(pieces) <= 255:  # noqa: PLR2004 (the number of the last piece has one byte)
        for number, piece in enumerate(pieces, 1):
            parts.append(_segment(_APP2, PROFILE_HEAD + bytes([number, len(pieces)]) + piece))
    return b"".join([*parts, memoryview(jpeg)[start:]])


def _segment(marker: int, body: bytes) -> memoryview:
    if len(body) > _LONGEST_SEGMENT:
        return memoryview(b"")
    return memoryview(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)
