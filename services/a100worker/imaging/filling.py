"""Fills holes in place: by PatchMatch or a model in a window, or with smooth colours if there is nothing to copy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from services.a100worker.imaging.grain import add_grain
from services.a100worker.imaging.placement import Box, bounding_box

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.a100worker.imaging.holes import Hole
    from shared.image_codec import Grey, Rgb

    Search: TypeAlias = Callable[[Rgb, Grey, Grey], Rgb]
    """Fills the hole (second argument) of an image without copying from the third argument's marked pixels."""

# Larger images and holes are filled at a smaller scale and then get grain: 3 s instead of 8 s at 2048 px.
_WORK_SIDE_PX = 1024
_WORK_HOLE_PX = 0.15 * _WORK_SIDE_PX**2
_PATCH_PX = 7
_TELEA_RADIUS_PX = 3
_LEAST_TELEA_PX = 3  # least side: OpenCV fills images of 1 px with uninitialised memory
_SPECK_REACH_PX = 8  # margin around a speck: specks at twice this distance do not influence each other


def fill_hole(image: Rgb, hole: Hole, search: Search, seed: int, shrink: float = 1.0) -> None:
    """Fill one hole of the image from its window, in place. A `shrink` below 1 makes the working scale smaller."""
    near = hole.window.slices
    sharp, mask, avoid = image[near], hole.mask, hole.avoid
    scale = min(1.0, _WORK_SIDE_PX / max(image.shape), math.sqrt(_WORK_HOLE_PX / np.count_nonzero(mask))) * shrink
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in mask.shape[::-1])
        small_mask, small_avoid = (_shrink(each, size) for each in (mask, avoid))
        small = cv2.resize(sharp, size, interpolation=cv2.INTER_AREA)
        coarse = _search_or_smooth(np.asarray(small, np.uint8), small_mask, small_avoid, search)
        fill = add_grain(sharp, coarse, small_mask, small_avoid, seed)
    else:
        fill = _search_or_smooth(np.ascontiguousarray(sharp), mask, avoid, search)
    np.copyto(image[near], fill, where=mask[..., None] > 0)  # indexing by the mask would take 16 bytes a pixel


def fill_specks(image: Rgb, specks: Grey) -> None:
    """Fill specks smoothly, in place. Each group of neighbouring specks is filled in its own window."""
    around = bounding_box(specks)
    if around is None:
        return
    crop = around.expand(_SPECK_REACH_PX, specks.shape).slices
    reach = np.ones((2 * _SPECK_REACH_PX + 1,) * 2, np.uint8)
    count, groups, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(specks[crop], reach), connectivity=8)
    for group in range(1, count):
        near = Box(*(int(side) for side in stats[group, : cv2.CC_STAT_AREA])).slices
        part, mask = image[crop][near], specks[crop][near]
        filled = fill_smoothly(np.ascontiguousarray(part), np.ascontiguousarray(mask), np.zeros_like(mask))
        own = (mask > 0) & (groups[near] == group)
        part[own] = filled[own]


def fill_smoothly(image: Rgb, mask: Grey, avoid: Grey) -> Rgb:
    """Continue the colours of the rim inwards (Telea 2004). It takes milliseconds, but gives no texture."""
    unknown = cv2.bitwise_or(mask, avoid)
    if unknown.all():
        unknown = mask
    if min(mask.shape) >= _LEAST_TELEA_PX:
        return np.asarray(cv2.inpaint(image, unknown, _TELEA_RADIUS_PX, cv2.INPAINT_TELEA), np.uint8)
    framed, unknown = (
        cv2.copyMakeBorder(one, *(_LEAST_TELEA_PX,) * 4, cv2.BORDER_REPLICATE) for one in (image, unknown)
    )
    filled = cv2.inpaint(framed, unknown, _TELEA_RADIUS_PX, cv2.INPAINT_TELEA)
    inner = slice(_LEAST_TELEA_PX, -_LEAST_TELEA_PX)
    return np.ascontiguousarray(filled[inner, inner])


def _search_or_smooth(image: Rgb, mask: Grey, avoid: Grey, search: Search) -> Rgb:
    """Search if there is at least one whole patch to copy, else fill smoothly: PatchMatch would leave black pixels."""
    patch = np.ones((_PATCH_PX, _PATCH_PX), np.uint8)
    reach = cv2.dilate(cv2.bitwise_or(mask, avoid), patch, borderType=cv2.BORDER_CONSTANT, borderValue=255)
    return fill_smoothly(image, mask, avoid) if reach.all() else search(image, mask, avoid)


def _shrink(mask: Grey, size: tuple[int, ...]) -> Grey:
    """Shrink a mask to width x height. A small pixel is marked if any of its original pixels is."""
    area = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    return np.where(area > 0, np.uint8(255), np.uint8(0))
