"""Makes renditions: a picture in another format, with the metadata of its upload.

A rendition must not contain an earlier picture: parts that may contain one are dropped or made again. A rendition
depends on its inputs alone, so that the same request gives the same bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from services.imageutils.bands import split_rows
from services.imageutils.renditions import containers, jpeg_file, png_file, tiff_file
from services.imageutils.renditions.carried import Carried, prepare, read_carried
from services.imageutils.renditions.exif import write_exif
from services.imageutils.renditions.loading import load_picture
from shared import deep_pixels
from shared.colour import fit
from shared.errors import BadImage
from shared.image_codec import encode_png
from shared.image_formats import CONTENT_TYPES
from shared.image_source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.imageutils.renditions.containers import Picture
    from shared.colour import Colour

WEBP_QUALITY, AVIF_QUALITY = 92, 85
_WEBP_METHOD, _AVIF_SPEED = 2, 8
_THUMBNAIL_PX, _THUMBNAIL_QUALITY = 160, 75
_SIXTEEN = 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of a rendition. `kind` is the format to encode; without `place` no GPS data are carried over."""

    kind: str
    quality: int | None = None
    place: bool = True
    lossless: bool = False


@dataclass(slots=True)
class Rendition:
    """An encoded picture, its content type, its size in pixels, and its losses as notes."""

    data: bytes
    content_type: str
    width: int
    height: int
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """A decoded picture, and all inputs of its encoder."""

    image: Image.Image
    colour: Colour
    carried: Carried
    exif: bytes
    upload: bytes | None
    wanted: Wanted
    notes: list[str]


def encode_rendition(
    pictures: list[bytes], upload: bytes | None, upload_kind: str | None, wanted: Wanted, *, is_stored: bool = True
) -> Rendition:
    """Return the rendition of the only picture in `pictures`, and remove it from the list to free its memory early.

    The metadata are those of `upload`, a file of the format `upload_kind`. `is_stored`: the picture is a worker's
    result (an upright PNG), not an upload. Raises BadImage.
    """
    facts = png_file.read_header(pictures[0]) if is_stored else None
    carried = read_carried(upload, upload_kind) if upload is not None and upload_kind is not None else Carried()
    if facts is not None and wanted.kind == "PNG":
        return _add_to_stored(pictures.pop(), facts.picture, carried, wanted)
    made_by = png_file.read_xmp(pictures[0]) if facts is not None else b""
    if facts is not None and wanted.kind == "TIFF" and facts.bits == _SIXTEEN:
        return _encode_deep(pictures.pop(), carried, made_by, wanted)
    image, colour, lost = load_picture(pictures)
    carried = prepare(carried, image.size, place=wanted.place, made_by=made_by)
    notes = list(lost)
    if facts is not None and facts.bits == _SIXTEEN and containers.EIGHT_BITS not in notes:
        notes.append(containers.EIGHT_BITS)
    if wanted.kind != "PNG" and colour.profile is None and b"cICP" in colour.chunks:
        notes.append(containers.LIGHT_LOST)
    exif = write_exif(carried.exif, _thumbnail(image) if carried.exif.had_thumbnail else b"")
    work = _Work(image, colour, carried, exif, upload, wanted, notes)
    size = image.size
    data = _ENCODERS[wanted.kind](work)
    return Rendition(data, CONTENT_TYPES[wanted.kind], *size, work.notes)


def _add_to_stored(png: bytes, picture: Picture, carried: Carried, wanted: Wanted) -> Rendition:
    """Return a stored PNG with the metadata: its pixels are not touched."""
    size = (picture.width, picture.height)
    carried = prepare(carried, size, place=wanted.place, made_by=png_file.read_xmp(png))
    return Rendition(png_file.add_metadata(png, carried, write_exif(carried.exif)), CONTENT_TYPES["PNG"], *size)


def _encode_deep(png: bytes, carried: Carried, made_by: bytes, wanted: Wanted) -> Rendition:
    """Return a TIFF with 16 bits a channel. Raises BadImage."""
    with open_source(png) as source:
        pixels, colour = deep_pixels.read(source), fit("RGB", source.colour)
    del png, source
    if pixels is None:
        raise BadImage("The image is damaged or incomplete.")
    if pixels.ndim == 2:  # noqa: PLR2004 (grey)
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    height, width = pixels.shape[:2]
    carried = prepare(carried, (width, height), place=wanted.place, made_by=made_by)
    return Rendition(tiff_file.encode_tiff(pixels, carried, colour.profile), CONTENT_TYPES["TIFF"], width, height)


def _encode_jpeg(work: _Work) -> bytes:
    coding = jpeg_file.Coding() if work.upload is None else jpeg_file.read_coding(work.upload)
    if work.image.mode == "RGBA":
        work.image = _flatten(work.image)
        work.notes.append(containers.ON_WHITE)
    encoded = jpeg_file.encode_jpeg(work.image, coding, work.wanted.quality, work.carried.density)
    return jpeg_file.add_metadata(encoded, work.carried, work.exif, work.colour.profile)


def _encode_webp(work: _Work) -> bytes:
    quality = work.wanted.quality or WEBP_QUALITY
    options: dict[str, Any] = {"quality": quality, "method": _WEBP_METHOD}
    if work.wanted.lossless and work.wanted.quality is None:
        options = {"lossless": True, "method": 0, "exact": True}
    return _save(work, "WEBP", **options)


def _encode_avif(work: _Work) -> bytes:
    quality = work.wanted.quality or AVIF_QUALITY
    # One thread: the service limits renditions, not their threads. The codec is named so that repeats give equal bytes.
    return _save(
        work, "AVIF", quality=quality, speed=_AVIF_SPEED, subsampling="4:4:4", codec="aom", max_threads=1,
    )  # fmt: skip


def _save(work: _Work, kind: str, **options: Any) -> bytes:
    if work.exif:
        options["exif"] = work.exif
    if work.carried.xmp:
        options["xmp"] = work.carried.xmp
    if work.colour.profile:
        options["icc_profile"] = work.colour.profile
    file = io.BytesIO()
    work.image.save(file, kind, **options)
    return file.getvalue()


def _encode_tiff(work: _Work) -> bytes:
    pixels = np.asarray(work.image)
    work.image.close()  # it has four bytes a pixel
    return tiff_file.encode_tiff(pixels, work.carried, work.colour.profile)


def _encode_bmp(work: _Work) -> bytes:
    file = io.BytesIO()
    work.image.save(file, "BMP", dpi=work.carried.density or (96, 96))
    return file.getvalue()


def _encode_png(work: _Work) -> bytes:
    return png_file.add_metadata(encode_png(np.asarray(work.image), work.colour), work.carried, work.exif)


def _flatten(image: Image.Image) -> Image.Image:
    """Lay a picture on white, band by band: there is no memory for a second copy of a large one."""
    flat = Image.new("RGB", image.size, "white")
    for rows in split_rows((image.height, image.width)):
        band = image.crop((0, rows.start, image.width, rows.stop))
        flat.paste(band, (0, rows.start), band)
    return flat


def _thumbnail(image: Image.Image) -> bytes:
    """Return a JPEG of at most 160 px a side."""
    factor = max(1, max(image.size) // (2 * _THUMBNAIL_PX))
    small = image.reduce(factor)
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    (_flatten(small) if small.mode == "RGBA" else small).save(file, "JPEG", quality=_THUMBNAIL_QUALITY)
    return file.getvalue()


_ENCODERS: dict[str, Callable[[_Work], bytes]] = {
    "PNG": _encode_png,
    "JPEG": _encode_jpeg,
    "WEBP": _encode_webp,
    "AVIF": _encode_avif,
    "TIFF": _encode_tiff,
    "BMP": _encode_bmp,
}
