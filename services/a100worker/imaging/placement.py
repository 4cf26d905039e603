"""Places an inserted object: finds one box per marked region and fits the object into it with its proportions kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from shared.errors import BadInput

if TYPE_CHECKING:
    from shared.image_codec import Grey

MIN_REGION_PX = 100
MASK_THRESHOLD = 128


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels, origin top left."""

    x: int
    y: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The box as an index into an array."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def expand(self, margin: int, shape: tuple[int, ...]) -> Box:
        """Return the box with a margin on each side, clipped to an image of that shape."""
        left, top = max(0, self.x - margin), max(0, self.y - margin)
        right = min(shape[1], self.x + self.width + margin)
        bottom = min(shape[0], self.y + self.height + margin)
        return Box(left, top, right - left, bottom - top)


def bounding_box(mask: Grey) -> Box | None:
    """Return the smallest box around all nonzero pixels, or None if there are none."""
    x, y, width, height = cv2.boundingRect(mask)
    return Box(x, y, width, height) if width and height else None


def find_regions(mask: Grey) -> list[Box]:
    """Return the boxes of the mask's connected parts (4 neighbours) of at least 100 px. Raises BadInput without any."""
    inside = np.asarray(cv2.threshold(mask, MASK_THRESHOLD, 255, cv2.THRESH_BINARY)[1], np.uint8)
    around = bounding_box(inside) or Box(0, 0, 1, 1)  # labels of a whole mask of 24 megapixels take half a second
    count, _, stats, _ = cv2.connectedComponentsWithStats(inside[around.slices], connectivity=4)
    found = [stats[label] for label in range(1, count) if stats[label, cv2.CC_STAT_AREA] >= MIN_REGION_PX]
    if not found:
        raise BadInput(f"The mask marks no region of at least {MIN_REGION_PX} pixels.")
    boxes = [Box(*(int(side) for side in part[: cv2.CC_STAT_AREA])) for part in found]
    return [Box(around.x + box.x, around.y + box.y, box.width, box.height) for box in boxes]


def fit(width: int, height: int, into: Box) -> Box:
    """Scale width x height uniformly to fit the box. Place it at the bottom, centred horizontally."""
    scale = min(into.width / width, into.height / height)
    fitted = min(into.width, max(1, round(width * scale))), min(into.height, max(1, round(height * scale)))
    return Box(into.x + (into.width - fitted[0]) // 2, into.y + into.height - fitted[1], *fitted)
