"""Casts the soft shadow of an inserted object on the ground: a near and a far one, both from the object's foot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.enlarging import Enlargement
from services.a100worker.imaging.placement import Box

if TYPE_CHECKING:
    from services.a100worker.imaging.cutout import Floats, ScaledCutout

SHADOW_REACH = 0.21
"""How far a shadow extends from the object, as a share of its long side: three times the widest blur."""
_FOOT = 0.2  # share of the object's height: the part near the ground
_SHADOWS = ((0.02, 0.008, 0.42), (0.07, 0.03, 0.22))  # blur across, blur and drop down (of the long side), strength
_SHADOW_SIDE_PX = 512  # largest side: at 8000 px the blur takes a quarter of an hour, and looks the same


def contact_shadow(alpha: Floats, box: Box) -> Floats:
    """Return the share of light (0..1) that the ground loses to a near and a far shadow of the object in the box.

    A large shadow is computed at a smaller scale.
    """
    height, width = alpha.shape
    size, inner = _fit_for_shadow(width, height, box)
    if size == (width, height):
        return _blur_foot(alpha, box)
    small = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.float32)
    return Enlargement(_blur_foot(small, inner), width, height).read(0, height).clip(0, 1)


def shadow_of(thing: ScaledCutout, box: Box, window: Box) -> Enlargement:
    """Return the shadow in the window; its values may leave 0..1."""
    local = Box(box.x - window.x, box.y - window.y, box.width, box.height)
    (width, height), inner = _fit_for_shadow(window.width, window.height, local)
    alpha = np.zeros((height, width), np.float32)
    alpha[inner.slices] = thing.source.resize(inner.width, inner.height).read(0, inner.height).alpha
    return Enlargement(_blur_foot(alpha, inner), window.width, window.height)


def _fit_for_shadow(width: int, height: int, box: Box) -> tuple[tuple[int, int], Box]:
    """Return the size at which a shadow is computed, and the object's box at that size."""
    scale = min(1.0, _SHADOW_SIDE_PX / max(box.width, box.height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    x, y = min(size[0] - 1, round(box.x * scale)), min(size[1] - 1, round(box.y * scale))
    right, bottom = round((box.x + box.width) * scale), round((box.y + box.height) * scale)
    return size, Box(x, y, max(1, min(size[0], right) - x), max(1, min(size[1], bottom) - y))


def _blur_foot(alpha: Floats, box: Box) -> Floats:
    foot = alpha.copy()
    foot[: box.y + box.height - max(1, round(_FOOT * box.height))] = 0
    long_side = max(box.width, box.height)
    light = np.ones_like(foot)
    for across, down, strength in _SHADOWS:
        drop = np.array([[1, 0, 0], [0, 1, down * long_side]], np.float32)
        dropped = cv2.warpAffine(foot, drop, foot.shape[::-1])
        wide, high = max(0.5, across * long_side), max(0.5, down * long_side)
        light *= 1 - strength * np.asarray(cv2.GaussianBlur(dropped, (0, 0), sigmaX=wide, sigmaY=high), np.float32)
    return 1 - light
