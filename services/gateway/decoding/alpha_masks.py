"""Turns a mask of OpenAI's clients, which marks the region by transparency, into one of ours, white on the region."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from PIL import Image

from shared.errors import BadImage, BadInput
from shared.image_codec import TURNS
from shared.image_source import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image_source import Source

_BAND_PIXELS = 1_000_000
_TO_WHITE = [255, *[0] * 255]  # by opacity: only fully transparent pixels are edited
_LEVEL = 1
_NO_ALPHA = (
    "It has no transparency, so it marks no region; send a PNG with an alpha channel in which the pixels to edit "
    "are transparent (alpha 0)."
)


def convert_alpha_mask(data: bytes) -> bytes:
    """Return a greyscale PNG of the upright size, 255 where the file is fully transparent and 0 elsewhere.

    It works in bands and writes the PNG by hand: beside the decoded picture it takes a few megabytes.
    Raises BadInput for a file without transparency, BadImage, TooLarge.
    """
    with open_source(data) as source:
        if not _has_alpha(source.image):
            raise BadInput(_NO_ALPHA)
        upright = _load_upright(source)
        header = struct.pack(">IIBBBBB", *upright.size, 8, 0, 0, 0, 0)  # 8 bits, greyscale
        packer, packed = zlib.compressobj(_LEVEL), bytearray()
        for rows in _marked_rows(upright):
            packed += packer.compress(rows)
        packed += packer.flush()
    return b"".join([b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header), _chunk(b"IDAT", packed), _chunk(b"IEND", b"")])


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _load_upright(source: Source) -> Image.Image:
    try:
        source.image.load()
    except OSError as error:
        raise BadImage("The image is damaged or incomplete.") from error
    image: Image.Image = source.image
    if source.frame is not None:
        canvas = Image.new("RGBA", source.size)
        canvas.paste(image.convert("RGBA"), source.frame[2:])
        image = canvas
    turn = TURNS.get(source.orientation)
    return image if turn is None else image.transpose(turn)


def _marked_rows(image: Image.Image) -> Iterator[bytes]:
    """Yield the rows of the PNG in bands, each row after a 0 for "no filter"."""
    width, height = image.size
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        alpha = (band if "A" in band.getbands() else band.convert("RGBA")).getchannel("A")
        marked = memoryview(alpha.point(_TO_WHITE).tobytes())
        yield b"".join([part for at in range(0, len(marked), width) for part in (b"\0", marked[at : at + width])])


def _chunk(kind: bytes, content: bytes | bytearray) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)])
