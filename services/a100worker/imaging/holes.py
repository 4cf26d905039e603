"""The holes of a removal: how far they reach beyond the mask, what lies round them, and what not to fill them with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.placement import Box
from shared.errors import BadInput

if TYPE_CHECKING:
    from shared.image_codec import Grey

_THRESHOLD = 128
_GROW = 0.012  # of the long side: the rim of an object is mixed with what lies behind it
_FEATHER_PX = 2
_SPECK = 0.001  # of the picture
_MARGIN = (64 / 1024, 320 / 1024)  # least and most, of the long side
_MIN_MARGIN_PX = 8
_RING = 0.02  # of the long side
_GUARD_GROW = 0.006  # of the long side
_ON_OBJECT, _BESIDE_OBJECT = 0.95, 0.35  # share of a hole's rim that stands out
_MIN_SOURCE = 0.12  # of the window


@dataclass(frozen=True, slots=True)
class Hole:
    """One connected part of what is to be filled, in a window that shows enough of what lies round it."""

    window: Box
    mask: Grey  # of the window's size
    avoid: Grey  # of the window's size: what must not be copied into it


def grown(mask: Grey) -> Grey:
    """Binarise the mask and grow it by 1.2 % of the long side. Raises BadInput when it is empty or leaves no source."""
    inside = np.where(mask > _THRESHOLD, np.uint8(255), np.uint8(0))
    if not inside.any():
        raise BadInput("The mask marks nothing to remove.")
    if inside.all():
        raise BadInput("The mask covers the whole picture: there is nothing left to fill it from.")
    wide = _near(inside, max(_FEATHER_PX, _GROW * max(mask.shape)))
    return inside if wide.all() else wide


def feathered(hole: Grey, mask: Grey) -> Grey:
    """Let the hole's rim rise from 0 to 255 over 2 px, but never inside the mask itself."""
    depth = cv2.distanceTransform(hole, cv2.DIST_L2, 3)
    ramp = np.clip(depth * (255 / (_FEATHER_PX + 1)), 0, 255).astype(np.uint8)
    return np.where(mask > _THRESHOLD, np.uint8(255), ramp)


def split(hole: Grey, saliency: Grey | None) -> tuple[list[Hole], Grey]:
    """Take a hole apart: its connected parts (8 neighbours), largest first, and the specks too small for a search.

    A part in the background takes nothing from what stands out (`saliency` above one half), a part on an object nothing
    from the background; where its rim is mixed, or hardly any source would be left, everything may be used but the
    other holes.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hole, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    large = [int(label) for label in np.argsort(-areas, kind="stable") if label and areas[label] >= _SPECK * hole.size]
    specks = np.full(count, 255, np.uint8)
    specks[[0, *large]] = 0
    parts = []
    for label in large:
        window = _window(Box(*(int(side) for side in stats[label, : cv2.CC_STAT_AREA])), hole.shape)
        mask = np.where(labels[window.window] == label, np.uint8(255), np.uint8(0))
        others = hole[window.window] & ~mask
        seen = None if saliency is None else saliency[window.window]
        parts.append(Hole(window, mask, _guard(mask, others, seen, max(hole.shape))))
    return parts, specks[labels]


def _window(box: Box, shape: tuple[int, ...]) -> Box:
    """Return the box and once its size round it, within 64 to 320 px of a picture of 1024."""
    least, most = (share * max(shape) for share in _MARGIN)
    margin = round(min(max(box.width, box.height, least), most))
    return box.widened(max(_MIN_MARGIN_PX, margin), shape)


def _guard(part: Grey, others: Grey, saliency: Grey | None, long_side: int) -> Grey:
    if saliency is None:
        return others
    avoid = (_foreign(part, saliency, long_side) | others) & ~part
    source = np.count_nonzero((avoid | part) == 0)
    return avoid if source >= _MIN_SOURCE * part.size else others


def _foreign(part: Grey, saliency: Grey, long_side: int) -> Grey:
    """Mark what belongs to another thing than the part's rim does, and a little more."""
    thing = np.where(saliency > _THRESHOLD, np.uint8(255), np.uint8(0))
    ring = _near(part, _RING * long_side) & ~part
    share = cv2.mean(thing, mask=ring)[0] / 255
    if share >= _ON_OBJECT:
        return _near(~thing, _GUARD_GROW * long_side)
    if share <= _BESIDE_OBJECT:
        return _near(thing, _GUARD_GROW * long_side)
    return np.zeros_like(part)


def _near(mask: Grey, distance: float) -> Grey:
    """Mark all that is not farther than that from the mask: a dilation whose time does not grow with its radius."""
    away = cv2.distanceTransform(~mask, cv2.DIST_L2, 5)
    return np.where(away <= max(1.0, distance), np.uint8(255), np.uint8(0))
