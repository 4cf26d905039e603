"""The things that a network which segments everything has seen in a picture: where they are, and their masks.

The network looks once; whatever is asked about the picture later is answered from these, in a few milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from services.segmentation.geometry import Box, Frame, whole_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

EDGE = 128  # the belief at a thing's edge, where the logit is 0
LEVELS = 16  # of belief per logit
_SAME = 0.7  # intersection over union from which two things are one
_BYTE = 255
# From belief to mask: 0 to 255 within a logit on either side of the edge, which is two or three pixels, mostly.
_SOFT = ((np.arange(256) - EDGE + LEVELS) * EDGE // LEVELS).clip(0, _BYTE).astype(np.uint8)


def record(belief: Grey, boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[Any]:
    """Return what was seen as one array of records: each thing once, surest first.

    `belief`: (n, h, w) over the whole picture, LEVELS for each logit, EDGE where it is 0; true only within `boxes`:
    (n, 4), x0 y0 x1 y1 as shares of the picture's width and height. `scores`: (n,), 0 to 1.
    """
    order = np.argsort(-scores, kind="stable")
    kind = [("score", "u1"), ("box", "<f4", (4,)), ("area", "<f4"), ("belief", "u1", belief.shape[1:])]
    seen = np.zeros(len(order), kind)
    seen["score"] = np.rint(scores[order] * _BYTE)
    seen["box"] = boxes[order].clip(0, 1)
    seen["belief"] = np.where(_boxed(seen), belief[order], np.uint8(0))
    inside = (seen["belief"] >= EDGE).reshape(len(seen), belief.shape[1] * belief.shape[2])
    seen["area"] = inside.mean(axis=1)
    return seen[_distinct(inside)]


def _boxed(seen: NDArray[Any]) -> NDArray[np.bool_]:
    """Return (n, h, w): the thing's box, and a pixel round it so that its edge can be interpolated."""
    _, height, width = seen["belief"].shape
    x, y = np.arange(width) + 0.5, np.arange(height)[:, np.newaxis] + 0.5
    x0, y0, x1, y1 = (seen["box"][:, side, np.newaxis, np.newaxis] for side in range(4))
    across = (x > x0 * width - 1) & (x < x1 * width + 1)
    return np.asarray(across & (y > y0 * height - 1) & (y < y1 * height + 1))


def _distinct(inside: NDArray[np.bool_]) -> list[int]:
    """Return the numbers of those, (n, pixels), that are neither empty nor nearly the same as an earlier one."""
    flat = inside.astype(np.float32)
    areas, shared = flat.sum(axis=1), flat @ flat.T
    kept: list[int] = []
    for number in np.flatnonzero(areas):
        unions = areas[kept] + areas[number] - shared[kept, number]
        if not (shared[kept, number] > _SAME * unions).any():
            kept.append(int(number))
    return kept


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """All that was seen in one picture, numbered from 0, surest first."""

    records: NDArray[Any]
    """As `record` returns it."""
    limits: Box
    """The picture."""

    @classmethod
    def from_records(cls, image: Rgb, seen: NDArray[Any]) -> Instances:
        """Join the picture and what was seen in it."""
        return cls(seen, whole_image(image))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def areas(self) -> NDArray[np.float32]:
        """(n,), shares of the picture."""
        return np.asarray(self.records["area"])

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(n, 4): x0, y0, x1, y1 in pixels of the picture."""
        width, height = self.limits.width, self.limits.height
        return np.asarray(self.records["box"] * np.array([width, height, width, height], np.float32))

    def score(self, number: int) -> float:
        """How sure the network is of a thing, 0 to 1."""
        return float(self.records["score"][number]) / _BYTE

    def contain(self, places: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
        """Return (n, places): which things hold the pixels in which these places of the picture lie."""
        belief, limits = self.records["belief"], self.limits
        _, height, width = belief.shape
        x, y = np.floor(np.array(places, np.float32)).T + 0.5
        columns, right = _between(x * width / limits.width - 0.5, width)
        rows, down = _between(y * height / limits.height - 0.5, height)
        corners = belief[:, rows[:, np.newaxis], columns[np.newaxis]].astype(np.float32)  # (n, 2, 2, places)
        lines = corners[:, :, 0] * (1 - right) + corners[:, :, 1] * right
        level = lines[:, 0] * (1 - down) + lines[:, 1] * down
        x0, y0, x1, y1 = self.boxes.T[..., np.newaxis]
        return np.asarray((level >= EDGE) & (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1), np.bool_)

    def overlap_with(self, area: Grey) -> tuple[NDArray[np.float32], float]:
        """Return how much of each thing lies in an area of the picture (255 inside), and the area: shares of it all."""
        _, height, width = self.records["belief"].shape
        small = cv2.resize(area, (width, height), interpolation=cv2.INTER_AREA) >= EDGE
        together = (self.records["belief"] >= EDGE) & small
        return together.mean(axis=(1, 2), dtype=np.float32), float(small.mean())

    def mask(self, take: Iterable[int], leave: Iterable[int] = ()) -> Grey:
        """Draw things as one mask of the picture's size, without those to leave out; soft at the edge."""
        mask = np.zeros((self.limits.height, self.limits.width), np.uint8)
        for number in take:
            (x0, y0, x1, y1), one = self._drawn(number)
            np.maximum(mask[y0:y1, x0:x1], one, out=mask[y0:y1, x0:x1])
        for number in leave:
            (x0, y0, x1, y1), one = self._drawn(number)
            np.minimum(mask[y0:y1, x0:x1], _BYTE - one, out=mask[y0:y1, x0:x1])
        return mask

    def _drawn(self, number: int) -> tuple[Box, Grey]:
        x0, y0, x1, y1 = self.boxes[number].round().astype(int).tolist()
        box = Box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        level = Frame(box, box.width, box.height).sample(self.records["belief"][number], self.limits)
        return box, np.asarray(cv2.LUT(level, _SOFT), np.uint8)


def _between(at: NDArray[np.float32], size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return (2, places): the pixels before and behind, and (places,): the share of the second."""
    before = np.floor(at)
    pixels = np.stack([before, before + 1]).clip(0, size - 1).astype(np.intp)
    return pixels, (at - before).astype(np.float32)
