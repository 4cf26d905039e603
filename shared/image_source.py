"""The only reader of image files: it finds format, size, orientation, colour and completeness before any decoding.

The gateway's answer to an upload and every decoder use it, so that they never disagree. Orientation, frames and broken
metadata are read as browsers read them (docs/pictures.md); a test compares them with Chromium, file by file.
"""

from __future__ import annotations

import importlib
import io
import struct
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from shared import isobmff, jpeg, png_chunks
from shared.colour import SRGB, Colour
from shared.errors import BadImage, TooLarge
from shared.file_structure import check_structure
from shared.image_formats import FORMATS, MAX_PIXELS, MAX_SIDE_PX, missing_decoders
from shared.orientation import SIDEWAYS, orientation_of
from shared.tiles import check_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import ImageFile

BROKEN = (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, EOFError, OverflowError,
          ZeroDivisionError, RuntimeError, struct.error, zlib.error)  # fmt: skip
_PLUGINS = {"PNG": "Png", "JPEG": "Jpeg", "WEBP": "WebP", "BMP": "Bmp", "GIF": "Gif", "TIFF": "Tiff", "ICO": "Ico",
            "AVIF": "Avif"}  # fmt: skip
_STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"BM": "BMP",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF", b"\0\0\1\0": "ICO",
}  # fmt: skip
_BITS_TAG, _CHANNELS_TAG, _PLANES_TAG, _SEPARATE = 258, 277, 284, 2  # TIFF 6.0, section 8
# Code points of ITU-T H.273: primaries that are not stated; the curve of sRGB, and those that browsers read as it.
_UNSTATED, _LARGEST_CODE = frozenset({0, 2}), 255
_SRGB_CURVE, _READ_AS_SRGB = 13, frozenset({1, 2, 6, 14, 15})

# `open_source` enforces the limits; Pillow's own guard only warns.
Image.MAX_IMAGE_PIXELS = None
# Larger than the blocks that malloc keeps for reuse (32 MB), so memory returns to the system. With the default, a
# process kept 340 MB after two images of 64 megapixels at once.
Image.core.set_block_size(64 * 1024**2)  # type: ignore[attr-defined]  # same as PILLOW_BLOCK_SIZE in the environment


@dataclass(slots=True)
class Source:
    """An opened file. `pixels` is the file without its metadata; `image` reads it and has decoded nothing yet.

    `size` is the stored one, of the canvas of an animation; `frame` is the place of its first picture there. Both
    are in pixels. `frames` is the number of pictures of an animated PNG.
    """

    format: str
    image: ImageFile.ImageFile
    pixels: bytes
    size: tuple[int, int]
    orientation: int
    colour: Colour
    frame: png_chunks.Frame | None
    ended: bool
    frames: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Return width and height in pixels, as the picture is shown."""
        return self.size[::-1] if self.orientation in SIDEWAYS else self.size


@dataclass(slots=True)
class _File:
    """A file after its parts are sorted. The first picture of an animated PNG has a place on a canvas."""

    format: str
    pixels: bytes
    exif: bytes = b""
    colour: Colour | None = None
    canvas: tuple[int, int] | None = None
    frame: png_chunks.Frame | None = None
    ended: bool = True
    frames: int = 1


@contextmanager
def open_source(data: bytes) -> Iterator[Source]:
    """Open a file, check the limits, and raise BadImage for each error that a broken file causes in a decoder.

    Raises BadImage or TooLarge.
    """
    check_structure(data)
    try:
        file = _sort(data)
        image = _open(file)
    except BROKEN as error:
        raise BadImage(_unreadable(data)) from error
    try:
        if file.format == "TIFF":
            _check_planes(image)
        source = _describe(file, image)
        _check_size(*source.size)
        if file.format in {"AVIF", "HEIF"}:
            check_sizes(data, file.format)
        if not file.ended and file.format != "PNG":  # a PNG may lack only its end, so its pixels decide
            raise BadImage("The image is incomplete.")
        yield source
    except BROKEN as error:
        raise BadImage("The image is damaged or incomplete.") from error
    finally:
        image.close()


def _check_planes(image: ImageFile.ImageFile) -> None:
    """Refuse 16 bits in planes: Pillow reads them as 8. Raises BadImage."""
    tags = image.tag_v2  # type: ignore[attr-defined]  # of Pillow's class for TIFF
    if tags.get(_PLANES_TAG) == _SEPARATE and tags.get(_CHANNELS_TAG, 1) > 1 and max(tags.get(_BITS_TAG, (8,))) > 8:  # noqa: PLR2004
        raise BadImage("A TIFF with 16 bits a channel in separate planes is not read; save it interleaved, or as PNG.")


def _unreadable(data: bytes) -> str:
    if data[:2] in {b"II", b"MM"}:
        return "The TIFF is damaged, or not of 8 or 16 bits a channel as grey, RGB or RGBA; save it so, or as PNG."
    with suppress(ValueError):
        return f"The {format_of(data)} is damaged, or of a kind that is not read; save it again, as PNG or JPEG."
    missing = missing_decoders()
    return f"The file is not a readable image ({', '.join(name for name in FORMATS if name not in missing)})."


def _sort(data: bytes) -> _File:
    kind = format_of(data)
    if kind == "JPEG":
        parts = jpeg.read(data)
        return _File(kind, parts.pixels, parts.exif, Colour(parts.icc))
    if kind == "PNG":
        chunks = png_chunks.read(data)
        colour = Colour(chunks.icc, chunks.colours)
        return _File(kind, chunks.pixels, chunks.exif, colour, chunks.size, chunks.frame, chunks.ended, chunks.frames)
    if kind in {"AVIF", "HEIF"}:
        colour = Colour(chunks=_code_chunk(isobmff.colour_code(data)))
        return _File(kind, isobmff.hide_metadata(data), colour=colour, ended=isobmff.is_whole(data))
    if kind == "WEBP":
        return _File(kind, data, ended=int.from_bytes(data[4:8], "little") + 8 <= len(data))
    return _File(kind, data)


def format_of(data: bytes) -> str:
    """Return the format that the first bytes state. Raises ValueError for any other."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    found = next((name for start, name in _STARTS.items() if data.startswith(start)), None) or isobmff.format_of(data)
    if found is None:
        raise ValueError("unknown format")
    return found


def _open(file: _File) -> ImageFile.ImageFile:
    if file.format == "HEIF":
        _import_heif()
    else:
        # Without this, Pillow imports all its sixty plugins for a format that is not among its first five.
        plugin = importlib.import_module(f"PIL.{_PLUGINS[file.format]}ImagePlugin")
    if file.format == "AVIF":
        plugin.DEFAULT_MAX_THREADS = 1  # type: ignore[attr-defined]  # services count their decoders, not threads
    image = Image.open(io.BytesIO(file.pixels), formats=(file.format,))
    image.info.pop("xmp", None)  # Pillow would turn a TIFF by it while the pixels are decoded
    return image


def _import_heif() -> None:
    """Import the HEIC decoder when the first HEIC comes. Raises BadImage if it is not installed."""
    if missing_decoders():
        raise BadImage("HEIC is not supported on this server: its decoder is not installed. Send a JPEG or PNG.")
    import pi_heif  # noqa: PLC0415

    pi_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)


def _describe(file: _File, image: ImageFile.ImageFile) -> Source:
    colour = file.colour or SRGB
    if file.format not in {"JPEG", "PNG"}:  # Pillow read their metadata
        profile = image.info.get("icc_profile")
        colour = Colour(profile) if profile else colour
    return Source(
        format=file.format,
        image=image,
        pixels=file.pixels,
        size=file.canvas or image.size,
        orientation=orientation_of(_exif(file, image)),
        colour=colour,
        frame=file.frame,
        ended=file.ended,
        frames=file.frames,
    )


def _exif(file: _File, image: ImageFile.ImageFile) -> bytes:
    """Return the EXIF data that turns the picture. Browsers ignore that of a WebP; TIFF and HEIC come upright."""
    if file.format == "AVIF":  # Pillow states its turn and mirror this way; the file's own EXIF is hidden
        return bytes(image.info.get("exif", b"")).removeprefix(b"Exif\0\0")
    return file.exif


def _code_chunk(code: tuple[int, int] | None) -> dict[bytes, bytes]:
    """Return code points as a chunk cICP of a PNG, for full-range RGB; none if they are sRGB or not stated."""
    if code is None or code[0] in _UNSTATED or code[0] > _LARGEST_CODE or code[1] > _LARGEST_CODE:
        return {}
    primaries, transfer = code[0], _SRGB_CURVE if code[1] in _READ_AS_SRGB else code[1]
    return {} if (primaries, transfer) == (1, _SRGB_CURVE) else {b"cICP": bytes([primaries, transfer, 0, 1])}


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        raise TooLarge(
            f"The image is {width} x {height} pixels; at most {MAX_SIDE_PX} a side and "
            f"{MAX_PIXELS // 1_000_000} megapixels are accepted."
        )
