"""Cuts an object out of its image, with soft opacity and without the colours of the old background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from services.a100worker.imaging.placement import Box, bounding_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

    Floats: TypeAlias = NDArray[np.float32]

_MAX_SIDE_PX = 1024
_MARGIN = 0.1  # of the long side: background for the separation of the colours
_MIN_MARGIN_PX = 8
_RADIUS = 0.008  # of the long side
_EPSILON = 1e-5  # of the guided filter, for values 0..1
_STRETCH = (0.08, 0.92)
_FUSION_PX = (90, 6)
_SOFT_RIM = 0.04  # of the long side
_VISIBLE = 0.05


@dataclass(frozen=True, slots=True)
class Cutout:
    """Colours (h, w, 3) and opacity (h, w), both float32 0..1, cropped to the object."""

    colour: Floats
    alpha: Floats

    def resize(self, width: int, height: int) -> Cutout:
        """Scale colours and opacity. The colours of transparent pixels do not bleed into others."""
        shrinks = width < self.alpha.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        alpha = np.clip(cv2.resize(self.alpha, (width, height), interpolation=how), 0, 1)
        weighted = cv2.resize(self.colour * self.alpha[..., None], (width, height), interpolation=how)
        colour = np.clip(weighted / np.maximum(alpha, 1e-4)[..., None], 0, 1)
        return Cutout(colour.astype(np.float32), alpha.astype(np.float32))


def cut_out(image: Rgb, mask: Grey) -> Cutout:
    """Cut out the marked pixels of a mask (0 and 255, of the image's size, not empty), at most at 1024 px."""
    box = bounding_box(mask) or Box(0, 0, mask.shape[1], mask.shape[0])
    window = box.expand(max(_MIN_MARGIN_PX, round(_MARGIN * max(box.width, box.height))), mask.shape)
    colour, hard = image[window.slices], mask[window.slices]
    scale = min(1.0, _MAX_SIDE_PX / max(hard.shape))
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in hard.shape[::-1])
        colour = np.asarray(cv2.resize(colour, size, interpolation=cv2.INTER_AREA), np.uint8)
        hard = np.asarray(cv2.resize(hard, size, interpolation=cv2.INTER_AREA), np.uint8)
    floats, solid = (array.astype(np.float32) / np.float32(255) for array in (colour, hard))
    alpha = _soften(floats, solid)
    visible = bounding_box((alpha > _VISIBLE).astype(np.uint8)) or Box(0, 0, hard.shape[1], hard.shape[0])
    return Cutout(_estimate_colours(floats, alpha)[visible.slices], alpha[visible.slices])


def cut_whole(image: Rgb) -> Cutout:
    """Return the whole image as a cutout with a fading rim."""
    height, width = image.shape[:2]
    reach = max(1.0, _SOFT_RIM * max(height, width))
    rows, columns = (np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) for side in (height, width))
    alpha = np.minimum(rows[:, None] / reach, 1) * np.minimum(columns[None, :] / reach, 1)
    return Cutout(image.astype(np.float32) / np.float32(255), _smoothstep(alpha.astype(np.float32)))


def _soften(image: Floats, solid: Floats) -> Floats:
    """Soften the mask along the image's edges: guided filter (He, Sun, Tang 2010) on the grey image."""
    side = 2 * max(2, round(_RADIUS * max(solid.shape))) + 1
    guide = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.blur(values, (side, side)), np.float32)

    mean_guide, mean_solid = mean(guide), mean(solid)
    slope = (mean(guide * solid) - mean_guide * mean_solid) / (mean(guide * guide) - mean_guide**2 + _EPSILON)
    offset = mean_solid - slope * mean_guide
    low, high = _STRETCH
    return np.asarray(np.clip((mean(slope) * guide + mean(offset) - low) / (high - low), 0, 1), np.float32)


def _estimate_colours(image: Floats, alpha: Floats) -> Floats:
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


def _smoothstep(ramp: Floats) -> Floats:
    return ramp * ramp * (3 - 2 * ramp)
