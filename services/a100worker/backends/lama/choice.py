"""Measures which holes a network fills better than PatchMatch: large holes, and holes that lines run into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.a100worker.imaging.holes import Hole
    from shared.image_codec import Grey, Rgb

_LARGE = 0.04  # share of the image: PatchMatch repeats its patches in larger holes
_LINED = 0.1  # share of the rim
_WORK_PX = 512
_RIM_PX = (4, 9)  # least and most distance to the hole, at work size: nearer pixels are mixed with the object's edge
_SIGMA_PX = 2.0
_CLEAR = 6.0  # grey levels per pixel
_STRAIGHT = 0.8  # coherence of the structure tensor: 1 on a straight edge, 0 in noise
_ALONG = 0.85  # cosine between gradient and the rim's normal: above it, the line runs along the rim


def suits_network(image: Rgb, hole: Hole) -> bool:
    """Return whether a hole covers more than 4 % of the image, or clear lines cross 10 % of its rim."""
    return np.count_nonzero(hole.mask) > _LARGE * image.shape[0] * image.shape[1] or crossed_share(image, hole) > _LINED


def crossed_share(image: Rgb, hole: Hole) -> float:
    """Return the share of the hole's rim, 0 to 1, that clear straight lines cross.

    A line is found by the structure tensor (Förstner and Gülch 1987) beside the hole, at most at 512 pixels.
    """
    scale = min(1.0, _WORK_PX / max(hole.mask.shape))
    size = tuple(max(1, round(side * scale)) for side in hole.mask.shape[::-1])
    full = cv2.cvtColor(np.ascontiguousarray(image[hole.window.slices]), cv2.COLOR_RGB2GRAY)
    grey = np.asarray(cv2.resize(full, size, interpolation=cv2.INTER_AREA), np.uint8)
    inside = np.asarray(cv2.resize(hole.mask, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    away = np.asarray(cv2.distanceTransform(255 - inside, cv2.DIST_L2, cv2.DIST_MASK_5), np.float32)
    rim = (away >= _RIM_PX[0]) & (away <= _RIM_PX[1])
    crossed = np.count_nonzero(_crosses(grey, away) & rim)
    return crossed / max(1, int(np.count_nonzero(rim)))


def _crosses(grey: Grey, away: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where a clear straight line runs across the lines of equal distance to the hole."""
    across, down = _gradient(grey.astype(np.float32))
    xx, yy, xy = _blur(across * across), _blur(down * down), _blur(across * down)
    energy, spread = xx + yy, np.hypot(xx - yy, 2 * xy)
    is_line = (energy > _CLEAR**2) & (spread > _STRAIGHT * energy)
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)  # direction of the main gradient
    normal_x, normal_y = _gradient(away)
    cosine = np.abs(np.cos(angle) * normal_x + np.sin(angle) * normal_y)
    return np.asarray(is_line & (cosine < _ALONG * np.maximum(np.hypot(normal_x, normal_y), 1e-6)))


def _gradient(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the change per pixel across and down."""
    return tuple(np.asarray(cv2.Sobel(values, cv2.CV_32F, *axis, scale=1 / 8)) for axis in ((1, 0), (0, 1)))  # type: ignore[return-value]


def _blur(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), _SIGMA_PX))
