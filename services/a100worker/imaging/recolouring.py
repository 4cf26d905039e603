"""Gives a photo the colours of a repainted copy, and keeps its own pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.registration import is_aligned, with_colours_of

if TYPE_CHECKING:
    from shared.image_codec import Rgb

_STRIP_PX = 256  # rows computed at once: the floats of 64 megapixels would fill gigabytes


def recolour(image: Rgb, before: Rgb, after: Rgb, strength: float) -> tuple[Rgb, bool]:
    """Return the image in the colours of `after`, and whether `after` is aligned with `before`.

    `before` is the image at the size of `after`. If `after` is aligned, the change of each pixel is added, so that an
    image of another size stays sharp. If it has moved by more than a pixel, only the change of the colours is used.
    """
    aligned = is_aligned(before, after)
    if not aligned:
        target = with_colours_of(image, before, after)
        return _mix(image, image, target, strength), False
    if before.shape == image.shape:
        return _mix(image, before, after, strength), True
    size = image.shape[1], image.shape[0]
    how = cv2.INTER_AREA if size[0] < before.shape[1] else cv2.INTER_CUBIC
    old, new = (np.asarray(cv2.resize(one, size, interpolation=how), np.uint8) for one in (before, after))
    return _mix(image, old, new, strength), True


def _mix(image: Rgb, before: Rgb, after: Rgb, strength: float) -> Rgb:
    """Return the image changed by a share of the difference between two images of its size."""
    result = np.empty_like(image)
    for top in range(0, image.shape[0], _STRIP_PX):
        rows = slice(top, top + _STRIP_PX)
        change = after[rows].astype(np.float32) - before[rows]
        result[rows] = np.clip(np.rint(image[rows] + np.float32(strength) * change), 0, 255)
    return result
