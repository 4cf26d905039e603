"""Pure functions on masks: uint8 (height, width), 0 to 255; a pixel above 127 is inside."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from services.segmentation.geometry import bounding_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.segmentation.geometry import Box
    from shared.image_codec import Grey

INSIDE = 127
_BAND_PIXELS = 1_000_000  # a large mask without bands would take 17 bytes a pixel
_LARGE_PART = 0.1  # share of the largest part
_SMALL_HOLE = 0.03  # share of the mask
_TRACED_PX = 0.7  # distance by which a polygon may miss an edge
_MAX_POLYGONS, _MAX_CORNERS, _LEAST_CORNERS = 32, 256, 3  # the largest; one with more corners may miss its edge by more
_SHARP_SIGMA_PX = 10.0  # above it, three box blurs are faster than one Gaussian and differ by < 2 grey levels


def binary(inside: NDArray[np.bool_]) -> Grey:
    """Return a hard mask: 255 where true, else 0."""
    return np.where(inside, np.uint8(255), np.uint8(0))


def bbox(mask: Grey) -> Box | None:
    """Return the bounding box of the inside, or None if there is none."""
    return bounding_box(binary(mask > INSIDE))


def keep_inside(mask: Grey, box: Box) -> Grey:
    """Return the mask with 0 outside the box."""
    inside = np.zeros_like(mask)
    inside[box.slices] = mask[box.slices]
    return inside


def iou(mask: Grey, other: Grey) -> float:
    """Return intersection over union, 0 to 1, of two masks of the same size; 1 for two empty masks."""
    one, two = mask > INSIDE, other > INSIDE
    union = np.count_nonzero(one | two)
    return np.count_nonzero(one & two) / union if union else 1.0


def resize_nearest(mask: Grey, width: int, height: int) -> Grey:
    """Resize a mask without interpolation."""
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST))


def grow(mask: Grey, by_px: float) -> Grey:
    """Move the edge outwards (inwards if negative) by Euclidean distance; the new edge is one pixel soft.

    The image border is not an edge: shrinking does not move a mask away from it.
    """
    if by_px == 0 or not mask.any():
        return mask
    grown = np.empty_like(mask)
    reach = math.ceil(abs(by_px)) + 2  # farther pixels have no effect
    rows = max(4 * reach, _BAND_PIXELS // mask.shape[1])
    for top in range(0, len(mask), rows):
        first = max(0, top - reach)
        near = _grow_band(mask[first : top + rows + reach], by_px)
        grown[top : top + rows] = near[top - first :][:rows]
    return grown


def _grow_band(mask: Grey, by_px: float) -> Grey:
    inside = np.asarray(cv2.threshold(mask, INSIDE, 255, cv2.THRESH_BINARY)[1], np.uint8)
    if by_px > 0:
        soft = by_px + 1 - cv2.distanceTransform(~inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    else:
        soft = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) + by_px
    return np.asarray(np.rint(soft.clip(0, 1) * 255).astype(np.uint8))


def feather(mask: Grey, sigma_px: float) -> Grey:
    """Blur the edge with a Gaussian of this standard deviation."""
    if sigma_px <= 0:
        return mask
    if sigma_px <= _SHARP_SIGMA_PX:
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma_px))
    side = round((4 * sigma_px**2 + 1) ** 0.5) | 1  # three boxes of this side have the variance of the Gaussian
    for _ in range(3):
        mask = np.asarray(cv2.blur(mask, (side, side)))
    return mask


def keep_parts(mask: Grey, sure: Grey) -> Grey:
    """Keep the connected parts with a pixel in `sure`; if there are none, those of at least 10 % of the largest."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count == 1:
        return mask
    held = np.unique(parts[(sure > 0) & (mask > 0)])
    if not held.size:
        areas = stats[1:, cv2.CC_STAT_AREA]
        held = 1 + np.flatnonzero(areas >= _LARGE_PART * areas.max())
    return binary(np.isin(parts, held))


def fill_holes(mask: Grey, kept: Grey) -> Grey:
    """Fill holes of less than 3 % of the mask, except those with a pixel in `kept`."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(255 - mask, connectivity=4)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    taboo = np.union1d(edge, parts[kept > 0])
    small = stats[:, cv2.CC_STAT_AREA] < _SMALL_HOLE * np.count_nonzero(mask)
    filled = np.setdiff1d(np.flatnonzero(small), taboo)
    return binary((mask > 0) | np.isin(parts, filled))


def trace(mask: Grey, width: int, height: int) -> list[list[tuple[float, float]]]:
    """Return the edges of a mask over the whole image as closed polygons in image pixels, the longest first.

    Edges of holes are polygons too: fill with the even-odd rule. The mask is enlarged by two first, so that a polygon
    runs along the outer sides of the pixels.
    """
    rows, columns = mask.shape
    large = cv2.copyMakeBorder(
        cv2.resize(mask, (2 * columns, 2 * rows), interpolation=cv2.INTER_NEAREST), 1, 1, 1, 1, cv2.BORDER_CONSTANT
    )
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    largest = sorted(contours, key=lambda contour: -len(contour))[:_MAX_POLYGONS]
    across, down = width / (2 * columns), height / (2 * rows)
    polygons = (_simplify(contour) for contour in largest)
    return [
        [(round((x - 0.5) * across, 1), round((y - 0.5) * down, 1)) for x, y in corners]
        for corners in polygons
        if len(corners) >= _LEAST_CORNERS
    ]


def _simplify(contour: NDArray[Any]) -> list[tuple[int, int]]:
    tolerance = 2 * _TRACED_PX
    corners = cv2.approxPolyDP(contour, tolerance, closed=True)
    while len(corners) > _MAX_CORNERS:
        tolerance *= 2
        corners = cv2.approxPolyDP(contour, tolerance, closed=True)
    return [(int(x), int(y)) for x, y in corners[:, 0]]
