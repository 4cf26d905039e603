"""Pictures as a browser's canvas sends them: RGBA PNG in base64, each upload different from the last."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path

from PIL import Image, ImageDraw

_SAMPLE = Path(__file__).parents[3] / "services/gateway/static/samples/astronaut.jpg"
_TAIL_BYTES = 12  # IEND


def photo(side_px: int) -> bytes:
    """Return a square photo, enlarged from a sample."""
    with Image.open(_SAMPLE) as sample:
        return _png(sample.resize((side_px, side_px), Image.Resampling.LANCZOS).convert("RGBA"))


def mask(side_px: int, number: int = 0) -> bytes:
    """Return a white ellipse on opaque black, a third of the picture; another place for each number up to 20."""
    picture = Image.new("RGBA", (side_px, side_px), "black")
    left = side_px // 10 + number
    ImageDraw.Draw(picture).ellipse((left, side_px // 5, left + side_px * 7 // 10, side_px * 4 // 5), fill="white")
    return _png(picture)


def distinct(png: bytes, number: int) -> bytes:
    """Return the same picture in other bytes, so that no store knows it: a comment chunk with the number."""
    body = b"tEXtComment\0" + str(number).encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:-_TAIL_BYTES] + chunk + png[-_TAIL_BYTES:]


def base64_of(png: bytes) -> str:
    """Return the figures for the JSON file."""
    return base64.b64encode(png).decode()


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
