"""Writes a TIFF of one picture with 8 or 16 bits a channel: compressed strips, then the directory (TIFF 6.0)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
from isal import isal_zlib

from services.imageutils.bands import split_rows
from services.imageutils.renditions.exif import LONG, SHORT, UNDEFINED, Value, write_file

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from services.imageutils.renditions.carried import Carried

    Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

_DEFLATE, _RGB, _DIFFERENCES, _STRAIGHT_ALPHA, _OPAQUE_CHANNELS = 8, 2, 2, 2, 3
_HEADER_BYTES = 8


def encode_tiff(pixels: Pixels, carried: Carried, icc: bytes | None) -> bytes:
    """Return the file of (h, w, 3) RGB or (h, w, 4) RGBA with these metadata."""
    exif = carried.exif
    bands = split_rows(pixels.shape)
    strips = [_pack(pixels[rows], exif.order) for rows in bands]
    ends = np.cumsum([len(strip) for strip in strips]).tolist()
    height, width, channels = pixels.shape
    shorts = {
        258: [8 * pixels.itemsize] * channels, 259: [_DEFLATE], 262: [_RGB], 277: [channels], 284: [1],
        317: [_DIFFERENCES],
    }  # fmt: skip
    if channels > _OPAQUE_CHANNELS:
        shorts[338] = [_STRAIGHT_ALPHA]
    longs = {
        256: [width], 257: [height], 278: [bands[0].stop], 279: [len(strip) for strip in strips],
        273: [_HEADER_BYTES + end - len(strip) for end, strip in zip(ends, strips, strict=True)],
    }  # fmt: skip
    texts = {700: carried.xmp, 33_723: carried.iptc, 34_675: icc or b""}
    tags = {
        tag: Value(SHORT, len(each), struct.pack(f"{exif.order}{len(each)}H", *each)) for tag, each in shorts.items()
    }
    tags |= {
        tag: Value(LONG, len(each), struct.pack(f"{exif.order}{len(each)}I", *each)) for tag, each in longs.items()
    }
    tags |= {tag: Value(UNDEFINED, len(text), text) for tag, text in texts.items() if text}
    return write_file(exif, tags, b"".join(strips))


def _pack(band: Pixels, order: str) -> bytes:
    """Compress rows after horizontal differencing (TIFF 6.0, section 14)."""
    steps = band.copy()
    np.subtract(band[:, 1:], band[:, :-1], out=steps[:, 1:])
    stored = steps if steps.itemsize == 1 else steps.astype(f"{order}u2")
    return bytes(isal_zlib.compress(stored.tobytes(), 1))
