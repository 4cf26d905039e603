"""Windows: an engine works only on the parts of a photo around the mask, in less time and with more detail."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.placement import MASK_THRESHOLD, Box, bounding_box
from shared.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.image_codec import Grey

MOST = 4  # windows of a job
LEAST_PX = 512  # least side of a window, if the photo has as many pixels
STEP_PX = 32  # sides are multiples of this, if the photo is large enough
_MARGIN = 1 / 4  # share of the regions' side, on each edge
_LEAST_MARGIN_PX = 64
_CELL_PX = 32  # cells of the raster on which many small regions are joined
_FEW = 16  # regions that are compared pair by pair
_NEARLY_ALL = 0.95


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the photo with the regions to work on inside; no region of another window reaches into it."""

    box: Box
    regions: tuple[Box, ...]


def plan(regions: Sequence[Box], shape: tuple[int, ...]) -> list[Window]:
    """Return 1 to 4 windows round the regions of a photo of that shape, from top to bottom.

    A window is its regions' box with a quarter of each side as margin (at least 64 px), and has at least 512 px a side.
    Regions share a window if one reaches into the other's window, or if one window has fewer pixels than two.
    """
    groups = [(region,) for region in regions] if len(regions) <= _FEW else _join_on_raster(regions, shape)
    windows = [_window_of(group, shape) for group in groups]
    while len(windows) > 1:
        pair = _pair_to_join(windows, shape)
        if pair is None:
            break
        second, first = (windows.pop(number) for number in sorted(pair, reverse=True))
        windows.append(_window_of((*first.regions, *second.regions), shape))
    return sorted(windows, key=lambda window: (window.box.y, window.box.x))


def boxes_of(mask: Grey) -> list[Box]:
    """Return the boxes of a mask's connected parts (8 neighbours)."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return [Box(*(int(side) for side in part[: cv2.CC_STAT_AREA])) for part in stats[1:]]


def boxes_of_marked(mask: Grey) -> list[Box]:
    """Return the boxes of the parts that a mask marks. Raises BadInput if it marks nothing."""
    around = bounding_box(mask) or Box(0, 0, 1, 1)  # a mask of 24 megapixels takes half a second as a whole
    boxes = boxes_of(np.where(mask[around.slices] > MASK_THRESHOLD, np.uint8(255), np.uint8(0)))
    if not boxes:
        raise BadInput("The mask marks nothing to remove.")
    return [Box(box.x + around.x, box.y + around.y, box.width, box.height) for box in boxes]


def leaves_no_context(mask: Grey) -> bool:
    """Return whether the mask covers more than 95 % of the photo."""
    return bool(np.count_nonzero(mask > MASK_THRESHOLD) > _NEARLY_ALL * mask.size)


def _pair_to_join(windows: Sequence[Window], shape: tuple[int, ...]) -> tuple[int, int] | None:
    for first, second in permutations(range(len(windows)), 2):
        if any(_overlap(windows[first].box, region) for region in windows[second].regions):
            return first, second
    pairs = list(combinations(range(len(windows)), 2))
    costs = [_extra_pixels(windows[first], windows[second], shape) for first, second in pairs]
    cheapest = min(range(len(pairs)), key=costs.__getitem__)
    return pairs[cheapest] if costs[cheapest] <= 0 or len(windows) > MOST else None


def _extra_pixels(first: Window, second: Window, shape: tuple[int, ...]) -> int:
    """Return the pixels of a joint window, minus those of the two windows."""
    joined = _window_of((*first.regions, *second.regions), shape)
    return _area(joined.box) - _area(first.box) - _area(second.box)


def _window_of(regions: tuple[Box, ...], shape: tuple[int, ...]) -> Window:
    box = _hull(regions)
    x, width = _span(box.x, box.width, shape[1])
    y, height = _span(box.y, box.height, shape[0])
    return Window(Box(x, y, width, height), regions)


def _span(start: int, length: int, limit: int) -> tuple[int, int]:
    """Return start and length of one side of a window, moved inside the photo by as little as possible."""
    margin = max(_LEAST_MARGIN_PX, round(length * _MARGIN))
    first, end = max(0, start - margin), min(limit, start + length + margin)
    wanted = max(LEAST_PX, end - first)
    side = min(limit, -(-wanted // STEP_PX) * STEP_PX)
    middle = (first + end) // 2
    return min(max(0, middle - side // 2), limit - side), side


def _join_on_raster(regions: Sequence[Box], shape: tuple[int, ...]) -> list[tuple[Box, ...]]:
    """Join regions across growing gaps until few groups are left; comparing thousands pair by pair takes minutes."""
    raster = np.zeros([-(-side // _CELL_PX) for side in shape[:2]], np.uint8)
    for box in regions:
        rows, columns = (slice(part.start // _CELL_PX, (part.stop - 1) // _CELL_PX + 1) for part in box.slices)
        raster[rows, columns] = 255
    while True:
        raster = np.asarray(cv2.dilate(raster, np.ones((3, 3), np.uint8)), np.uint8)
        count, labels = cv2.connectedComponents(raster, connectivity=8)
        if count - 1 <= _FEW:
            break
    groups: dict[int, list[Box]] = {}
    for box in regions:
        groups.setdefault(int(labels[box.y // _CELL_PX, box.x // _CELL_PX]), []).append(box)
    return [tuple(group) for group in groups.values()]


def _hull(boxes: Sequence[Box]) -> Box:
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    right, bottom = max(box.x + box.width for box in boxes), max(box.y + box.height for box in boxes)
    return Box(left, top, right - left, bottom - top)


def _overlap(first: Box, second: Box) -> bool:
    across = first.x < second.x + second.width and second.x < first.x + first.width
    return across and first.y < second.y + second.height and second.y < first.y + first.height


def _area(box: Box) -> int:
    return box.width * box.height
