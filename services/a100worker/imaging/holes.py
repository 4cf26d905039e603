"""The holes of a removal: grows the mask, splits it into parts, and marks pixels that must not be copied."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.placement import MASK_THRESHOLD, Box, bounding_box
from shared.errors import BadInput

if TYPE_CHECKING:
    from shared.image_codec import Grey

RIM = 0.012  # share of the long side: at its rim an object is mixed with the background
_FEATHER_PX = 2
_SPECK = 0.001  # share of the image: smaller parts are specks
_SMALL = 0.005  # share of the image; below it, 160 fills of known pixels were as accurate without a map as with one
_MARGIN = (64 / 1024, 320 / 1024)  # least and most, as shares of the long side
_MIN_MARGIN_PX = 8
_RING = 0.02  # width, as a share of the long side
_GUARD_GROW = 0.006  # share of the long side
_ON_OBJECT, _BESIDE_OBJECT = 0.95, 0.35  # salient share of the ring around a hole
_MIN_SOURCE = 0.12  # of a window's pixels: if fewer may be copied, only the other holes are avoided


@dataclass(frozen=True, slots=True)
class Hole:
    """One connected part of the region to fill, in a window with enough of its surroundings."""

    window: Box
    mask: Grey  # of the window's size
    avoid: Grey  # of the window's size: pixels that must not be copied into it


def grow(mask: Grey, by: float = RIM) -> Grey:
    """Binarise the mask and grow it by a share of the long side; 0 leaves it as it is.

    Raises BadInput if it is empty, or if nothing is left to fill the hole from.
    """
    inside = _binarise(mask)
    box = bounding_box(inside)
    if box is None:
        raise BadInput("The mask marks nothing to remove.")
    if cv2.countNonZero(inside) == inside.size:
        raise BadInput("The mask covers the whole image: nothing is left to fill it from.")
    if not by:
        return inside
    distance = max(_FEATHER_PX, by * max(mask.shape))
    near = box.expand(math.ceil(distance) + 1, mask.shape).slices
    wide = np.zeros_like(inside)
    wide[near] = _dilate(inside[near], distance)
    return inside if cv2.countNonZero(wide) == wide.size else wide


def feather(hole: Grey, mask: Grey, width_px: float = _FEATHER_PX) -> Grey:
    """Return weights that rise from 0 to 255 over this width at the hole's rim, and are 255 inside the mask."""
    weights = _binarise(mask)
    box = bounding_box(hole)
    if box is None:
        return weights
    near = box.expand(1, hole.shape).slices  # with the nearest pixels outside the hole
    depth = np.asarray(cv2.distanceTransform(hole[near], cv2.DIST_L2, 3), np.float32)
    depth *= np.float32(255 / (width_px + 1))
    ramp = np.clip(depth, 0, 255, out=depth).astype(np.uint8)
    weights[near] = np.maximum(weights[near], ramp)
    return weights


def is_small(hole: Grey) -> bool:
    """Return whether the whole hole is so small that a saliency map does not improve its fill."""
    return cv2.countNonZero(hole) < _SMALL * hole.size


def split(hole: Grey, saliency: Grey | None) -> tuple[list[Hole], Grey]:
    """Return the connected parts of a hole (8 neighbours), largest first, and a mask of specks too small for a search.

    A part in the background avoids salient pixels (`saliency` above one half), and a part on an object avoids the
    background. If its ring is mixed, or if hardly any pixels would be left to copy, it avoids only the other holes.
    """
    specks = np.zeros_like(hole)
    box = bounding_box(hole)
    if box is None:
        return [], specks
    # OpenCV labels parts in blocks of 2 x 2 pixels: an odd origin would change the order of parts of the same size.
    left, top = box.x // 2 * 2, box.y // 2 * 2
    crop = Box(left, top, box.x + box.width - left, box.y + box.height - top)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hole[crop.slices], connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    large = [int(label) for label in np.argsort(-areas, kind="stable") if label and areas[label] >= _SPECK * hole.size]
    is_speck = np.full(count, 255, np.uint8)
    is_speck[[0, *large]] = 0
    specks[crop.slices] = is_speck[labels]
    parts = []
    for label in large:
        inner = Box(*(int(side) for side in stats[label, : cv2.CC_STAT_AREA]))
        part = Box(crop.x + inner.x, crop.y + inner.y, inner.width, inner.height)
        window = _window_of(part, hole.shape)
        mask = np.zeros((window.height, window.width), np.uint8)
        local = Box(part.x - window.x, part.y - window.y, part.width, part.height)
        mask[local.slices] = np.where(labels[inner.slices] == label, np.uint8(255), np.uint8(0))
        others = hole[window.slices] & ~mask
        seen = None if saliency is None else saliency[window.slices]
        parts.append(Hole(window, mask, _mark_avoided(mask, others, seen, max(hole.shape))))
    return parts, specks


def _binarise(mask: Grey) -> Grey:
    return np.asarray(cv2.threshold(mask, MASK_THRESHOLD, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _window_of(box: Box, shape: tuple[int, ...]) -> Box:
    """Return the box with a margin of its own size on each side, but 64 to 320 px per 1024 px of the long side."""
    least, most = (share * max(shape) for share in _MARGIN)
    margin = round(min(max(box.width, box.height, least), most))
    return box.expand(max(_MIN_MARGIN_PX, margin), shape)


def _mark_avoided(part: Grey, others: Grey, saliency: Grey | None, long_side: int) -> Grey:
    if saliency is None:
        return others
    avoid = (_mark_foreign(part, saliency, long_side) | others) & ~part
    source = np.count_nonzero((avoid | part) == 0)
    return avoid if source >= _MIN_SOURCE * part.size else others


def _mark_foreign(part: Grey, saliency: Grey, long_side: int) -> Grey:
    """Mark the areas that differ in saliency from the hole's surroundings, with a small margin."""
    salient = _binarise(saliency)
    ring = _dilate(part, _RING * long_side) & ~part
    share = cv2.mean(salient, mask=ring)[0] / 255
    if share >= _ON_OBJECT:
        return _dilate(~salient, _GUARD_GROW * long_side)
    if share <= _BESIDE_OBJECT:
        return _dilate(salient, _GUARD_GROW * long_side)
    return np.zeros_like(part)


def _dilate(mask: Grey, distance: float) -> Grey:
    """Mark all pixels within `distance` of the mask. Unlike cv2.dilate, its time does not grow with the radius."""
    away = cv2.distanceTransform(~mask, cv2.DIST_L2, 5)
    return np.where(away <= max(1.0, distance), np.uint8(255), np.uint8(0))
