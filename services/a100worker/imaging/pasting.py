"""Puts painted pixels back into a photo without a visible rim: with a colour offset, grain and a feathered edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.grain import add_grain

if TYPE_CHECKING:
    from services.a100worker.imaging.placement import Box
    from shared.image_codec import Grey, Rgb

_FEATHER_PX = 2.0  # in painted pixels
_RING = 0.02  # width, as a share of the window's long side
_LEAST_RING_PX = 6
_LARGEST_OFFSET = 24.0  # levels; a larger difference is content, not a shift of colours
_EDGE_PX = 8  # width of the fade where a region reaches a window's edge


@dataclass(frozen=True, slots=True)
class Patch:
    """A painted part of a photo."""

    painted: Rgb  # of the window's size multiplied by `scale`
    scale: float  # painted pixels for each photo pixel
    region: Grey  # of the window's size; 0 where the photo stays, 255 where the painted pixels replace it
    seed: int  # for the choice of the places from which grain is copied


def feather_px(scale: float) -> float:
    """Return the width of a soft rim in photo pixels: that of two painted pixels, but at least two."""
    return _FEATHER_PX / min(1.0, scale)


def fade_at_edges(region: Grey, window: Box, shape: tuple[int, ...]) -> Grey:
    """Fade a region out where it reaches an edge of its window that is not an edge of the photo."""
    across = _ramp(window.width, window.x > 0, window.x + window.width < shape[1])
    down = _ramp(window.height, window.y > 0, window.y + window.height < shape[0])
    return np.rint(region * np.minimum(down[:, None], across[None, :])).astype(np.uint8)


def to_native(patch: Patch, photo: Rgb) -> Rgb:
    """Return the painted pixels at the window's size, with its grain and its colours. `photo` is the window's part."""
    enlarged = _with_detail(patch, photo)
    offset = _colour_offset(photo, enlarged, patch.region)
    if not offset.any():
        return enlarged
    return np.asarray(np.clip(np.rint(enlarged + offset), 0, 255), np.uint8)


def _with_detail(patch: Patch, photo: Rgb) -> Rgb:
    height, width = photo.shape[:2]
    if patch.painted.shape == photo.shape:
        return patch.painted
    if patch.scale >= 1:
        return np.asarray(cv2.resize(patch.painted, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    small = cv2.resize(patch.region, patch.painted.shape[1::-1], interpolation=cv2.INTER_AREA)
    hole = np.where(small > 0, np.uint8(255), np.uint8(0))
    return add_grain(photo, patch.painted, hole, np.zeros_like(hole), patch.seed)


def _colour_offset(photo: Rgb, painted: Rgb, region: Grey) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the mean difference (R, G, B) on a ring around the region, where both images show the same content."""
    radius = max(_LEAST_RING_PX, round(_RING * max(region.shape)))
    inside = np.where(region > 0, np.uint8(255), np.uint8(0))
    away = cv2.distanceTransform(~inside, cv2.DIST_L2, 3)
    ring = (away > 0) & (away <= radius)
    if not ring.any():
        return np.zeros(3, np.float32)
    offset = (photo[ring].astype(np.float32) - painted[ring]).mean(axis=0)
    return np.asarray(offset if np.abs(offset).max() <= _LARGEST_OFFSET else np.zeros(3), np.float32)


def _ramp(length: int, at_start: bool, at_end: bool) -> np.ndarray[tuple[int], np.dtype[np.float32]]:  # noqa: FBT001
    ramp = np.ones(length, np.float32)
    rise = np.linspace(0, 1, min(_EDGE_PX + 1, length), dtype=np.float32)
    if at_start:
        ramp[: len(rise)] = np.minimum(ramp[: len(rise)], rise)
    if at_end:
        ramp[-len(rise) :] = np.minimum(ramp[-len(rise) :], rise[::-1])
    return ramp
