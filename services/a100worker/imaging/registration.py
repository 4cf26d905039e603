"""Checks that a repainted photo is aligned with the original, and transfers the colours of one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Rgb

_LEAST_SIDE_PX = 64  # least side of a quarter that is compared
_STRIP_PX = 16  # narrower images have too little to compare
_SURE = 0.1  # response of a phase correlation: 1 for equal images, about 0.02 for unrelated ones
_GAIN = (0.5, 2.0)  # least and most, of a channel's contrast


def is_aligned(before: Rgb, after: Rgb, within_px: float = 1.0) -> bool:
    """Return whether two images of one size show the same shapes at the same places.

    The whole and its quarters are compared by phase correlation (Kuglin, Hines 1975), which light and colour do not
    affect. The quarters show a zoom or a rotation, in which the whole does not move. Quarters without shapes are
    skipped. A narrow strip counts as not aligned.
    """
    if min(before.shape[:2]) < _STRIP_PX:
        return False
    first, second = _grey(before), _grey(after)
    shift, response = _displacement(first, second)
    if response < _SURE or shift > within_px:
        return False
    height, width = first.shape
    if min(height, width) < 2 * _LEAST_SIDE_PX:
        return True
    for rows in (slice(0, height // 2), slice(height // 2, height)):
        for columns in (slice(0, width // 2), slice(width // 2, width)):
            shift, response = _displacement(first[rows, columns], second[rows, columns])
            if response >= _SURE and shift > within_px:
                return False
    return True


def with_colours_of(image: Rgb, before: Rgb, after: Rgb) -> Rgb:
    """Give the image the change of colours from `before` to `after`; their shapes need not match.

    Each channel's mean and standard deviation is moved (Reinhard 2001): a white balance changes the same two.
    """
    old, new = (one.reshape(-1, 3).astype(np.float32) for one in (before, after))
    gain = np.clip(new.std(axis=0) / np.maximum(old.std(axis=0), 1e-3), *_GAIN)
    lift = new.mean(axis=0) - gain * old.mean(axis=0)
    levels = np.arange(256, dtype=np.float32)[:, None] * gain + lift
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), np.uint8)


def _displacement(first: NDArray[np.float32], second: NDArray[np.float32]) -> tuple[float, float]:
    """Return by how many pixels the second is moved, and how sure that is (0 to 1)."""
    height, width = first.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    (across, down), response = cv2.phaseCorrelate(first, second, window)
    return float(np.hypot(across, down)), float(response)


def _grey(image: Rgb) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)
