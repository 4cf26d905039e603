"""Finds the letters around a hole that lies in printed or written text.

PatchMatch copies pieces of letters into such a hole, which then looks like a false text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.placement import bounding_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

_REACH, _LEAST_REACH_PX = 0.5, 32  # share of the hole's long side: the distance within which letters are looked for
_STROKE_PX = 25  # letters have no wider strokes at this size
_PAPER = 0.13  # share of the contrast: the largest deviation of a plain ground
_CONTRAST = 35.0  # grey levels between letters and ground
_SEPARATION = 0.75  # share of the variance that lies between letters and ground (Otsu 1979)
_INK = (0.03, 0.35)  # least and most share of dark pixels
_LETTERS = 12
_LETTER_PX = (5, 0.6)  # least height, and most as a share of the hole's long side
_ALIKE = 0.6  # share of the letters within half to twice the median height
_THIN = 0.3  # half a stroke's width, as a share of a letter's height
_RIM = 5  # letters are grown by two pixels, because their edges are soft


def find_lettering(image: Rgb, hole: Grey, avoid: Grey) -> Grey | None:
    """Return the mask of the letters around a hole in text; None for any other hole."""
    box = bounding_box(hole)
    if box is None:
        return None
    size = max(box.width, box.height)
    near = box.expand(max(_LEAST_REACH_PX, round(_REACH * size)), hole.shape).slices
    grey = np.asarray(cv2.cvtColor(image[near], cv2.COLOR_RGB2GRAY), np.uint8)
    known = (hole[near] | avoid[near]) == 0
    for inverted in (False, True):
        ink = _separate(255 - grey if inverted else grey, known)
        if ink is not None and _are_letters(ink, size):
            letters = np.zeros_like(hole)
            letters[near] = cv2.dilate(ink, np.ones((_RIM, _RIM), np.uint8))
            return letters
    return None


def _separate(grey: Grey, known: NDArray[np.bool_]) -> Grey | None:
    """Return the dark pixels on a plain ground; None if the pixels do not divide into these two kinds."""
    ground = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, np.ones((_STROKE_PX, _STROKE_PX), np.uint8))
    darker = cv2.subtract(cv2.blur(ground, (_STROKE_PX, _STROKE_PX)), grey)
    values = darker[known]
    if not values.size:
        return None
    level, _ = cv2.threshold(values.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    dark = values > level
    share = float(dark.mean())
    if not _INK[0] <= share <= _INK[1]:
        return None
    contrast = float(values[dark].mean() - values[~dark].mean())
    between = share * (1 - share) * contrast**2 / max(1e-6, float(values.var()))
    if contrast < _CONTRAST or between < _SEPARATION or values[~dark].std() > _PAPER * contrast:
        return None
    return np.where(known & (darker > level), np.uint8(255), np.uint8(0))


def _are_letters(ink: Grey, size: int) -> bool:
    """Return whether the dark parts are many thin shapes of about the same height."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    heights = stats[:, cv2.CC_STAT_HEIGHT].astype(np.float64)
    chosen = (heights >= _LETTER_PX[0]) & (heights <= max(_LETTER_PX[0], _LETTER_PX[1] * size))
    chosen[0] = False
    if np.count_nonzero(chosen) < _LETTERS:
        return False
    middle = float(np.median(heights[chosen]))
    alike = chosen & (heights >= middle / 2) & (heights <= 2 * middle)
    widest = np.zeros(len(heights), np.float32)
    np.maximum.at(widest, np.asarray(parts), cv2.distanceTransform(ink, cv2.DIST_L2, cv2.DIST_MASK_3))
    thin = float(np.median(widest[chosen] / heights[chosen])) <= _THIN
    return thin and bool(np.count_nonzero(alike) >= _ALIKE * np.count_nonzero(chosen))
