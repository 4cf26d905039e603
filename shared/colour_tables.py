"""Colour tables: the new value for each of the 256 values of a channel. A white balance is one such table.

The image utilities compute a table from a small copy of an image, and the worker applies it to the image that it has
decoded already, so that no large image travels between them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from shared.png import count_cores

if TYPE_CHECKING:
    from shared.deep_pixels import Deep
    from shared.image_codec import Rgb

SMALL_SIDE_PX = 384
"""The long side of the copy for the estimate of a colour cast; more pixels do not improve the estimate."""
_CLIPPING_FROM = 0.8  # in linear light: from here to 1 the probability rises that a channel is clipped
_BAND_ROWS = 32  # 150 ms of CPU time for a photo of 48 megapixels; 256 rows do not fit in the cache and take 185
_MOST_THREADS = 4  # OpenCV and numpy release the interpreter lock
_CODES = np.arange(256) / 255
# IEC 61966-2-1
SRGB_TO_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4)  # noqa: PLR2004
"""Linear light (0..1) of each value of an sRGB channel."""
_CLIPPED_SHARE = np.rint(255 * ((SRGB_TO_LINEAR - _CLIPPING_FROM) / (1 - _CLIPPING_FROM)).clip(0, 1)).astype(np.uint8)
_FIRST_CLIPPED = int(np.argmax(_CLIPPED_SHARE > 0))
_DEEP_CLIPPED_SHARE = np.interp(np.arange(65536), np.arange(256) * 257, _CLIPPED_SHARE / 255).astype(np.float32)


def shrink(image: Rgb) -> Rgb:
    """Return the image with a long side of at most SMALL_SIDE_PX."""
    height, width = image.shape[:2]
    scale = SMALL_SIDE_PX / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def apply_table(image: Rgb, table: Rgb) -> Rgb:
    """Return the image in the colours of a table of shape (256, 3); white stays white.

    A clipped channel was at least as bright as its value. So highlights are restored after the table; the gain alone
    would turn them mint or pink.
    """
    balanced, tops = np.empty_like(image), range(0, len(image), _BAND_ROWS)
    apply_band = partial(_apply_in_band, image, table, balanced)
    if len(tops) == 1:
        apply_band(0)
        return balanced
    with ThreadPoolExecutor(min(_MOST_THREADS, len(tops), count_cores()), "table") as threads:
        for _ in threads.map(apply_band, tops):
            pass
    return balanced


def _apply_in_band(image: Rgb, table: Rgb, balanced: Rgb, top: int) -> None:
    band = slice(top, top + _BAND_ROWS)
    balanced[band] = cv2.LUT(image[band], table[None])
    if image[band].max() >= _FIRST_CLIPPED:
        _restore_highlights(image[band], balanced[band])


def apply_curves(image: Deep, curves: Deep) -> Deep:
    """Return an image (h, w, 3) with 16 bits a channel in the colours of curves (3, 65536), as `apply_table` does."""
    balanced = np.empty_like(image)
    for channel, curve in enumerate(curves):
        balanced[..., channel] = curve[image[..., channel]]
    if image.max() >= _FIRST_CLIPPED * 257:
        _restore_deep_highlights(image, balanced)
    return balanced


def _restore_deep_highlights(image: Deep, balanced: Deep) -> None:
    brightest = balanced.max(axis=2)
    for channel in range(3):
        raised = np.rint(brightest * _DEEP_CLIPPED_SHARE[image[..., channel]]).astype(np.uint16)
        balanced[..., channel] = np.maximum(balanced[..., channel], raised)


def _restore_highlights(image: Rgb, balanced: Rgb) -> None:
    """Raise channels that were clipped in the image to the brightest channel, in place."""
    red, green, blue = (np.ascontiguousarray(balanced[..., channel]) for channel in range(3))
    brightest = cv2.max(cv2.max(red, green), blue)
    for channel, now in enumerate((red, green, blue)):
        clipped = np.asarray(cv2.LUT(np.ascontiguousarray(image[..., channel]), _CLIPPED_SHARE))
        balanced[..., channel] = cv2.max(now, cv2.multiply(brightest, clipped, scale=1 / 255))
