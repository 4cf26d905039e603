"""Separates an object from its background: a soft opacity, and the object's own colours without the background's.

Insertion and extraction use the same two functions, so that an object looks the same in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    """(height, width, 3) R G B or (height, width), 0..1."""

_RADIUS = 0.008  # of the long side
_EPSILON = 1e-5  # of the guided filter, for values 0..1
_STRETCH = (0.08, 0.92)
_FUSION_PX = (90, 6)
COLOUR_REACH_PX = sum(_FUSION_PX) // 2
"""The radius of the search for a pixel's own colour."""


def soften(image: Floats, solid: Floats, radius_px: int | None = None) -> Floats:
    """Soften the mask along the image's edges: guided filter (He, Sun, Tang 2010) on the grey image.

    Pixels farther than twice the radius do not matter. Without one it follows from the size.
    """
    side = 2 * (radius_px or max(2, round(_RADIUS * max(solid.shape)))) + 1
    guide = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.blur(values, (side, side)), np.float32)

    mean_guide, mean_solid = mean(guide), mean(solid)
    slope = (mean(guide * solid) - mean_guide * mean_solid) / (mean(guide * guide) - mean_guide**2 + _EPSILON)
    offset = mean_solid - slope * mean_guide
    low, high = _STRETCH
    return np.asarray(np.clip((mean(slope) * guide + mean(offset) - low) / (high - low), 0, 1), np.float32)


def estimate_colours(image: Floats, alpha: Floats) -> Floats:
    """Estimate the object's own colours: blur fusion in two passes (Forte 2021)."""
    colour = background = image
    weight = alpha[..., None]
    for radius in _FUSION_PX:
        near, far = _average(colour, alpha, radius), _average(background, 1 - alpha, radius)
        colour = np.clip(near + weight * (image - weight * near - (1 - weight) * far), 0, 1)
        background = far
    return colour


def _average(colour: Floats, weight: Floats, radius: int) -> Floats:
    total = cv2.blur(colour * weight[..., None], (radius, radius))
    return np.asarray(total / (cv2.blur(weight, (radius, radius)) + 1e-5)[..., None], np.float32)
