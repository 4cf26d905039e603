"""The instances that FastSAM detects in an image: their boxes, scores and masks.

The network runs once per image. Each prompt is answered from its instances in a few milliseconds.
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

EDGE = 128  # the level at an instance's edge, where the logit is 0
LEVELS = 16  # per logit
_SAME = 0.7  # IoU above which two instances are duplicates
_BYTE = 255
# Converts levels to mask values: 0 to 255 within one logit on either side of the edge, mostly two or three pixels.
_SOFT = ((np.arange(256) - EDGE + LEVELS) * EDGE // LEVELS).clip(0, _BYTE).astype(np.uint8)


def record(levels: Grey, boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[Any]:
    """Return the detections as one array of records, without duplicates, highest score first.

    `levels`: (n, h, w) over the whole image, LEVELS per logit, EDGE where the logit is 0; valid only within `boxes`:
    (n, 4), x0 y0 x1 y1 as shares of the image's width and height. `scores`: (n,), 0 to 1.
    """
    order = np.argsort(-scores, kind="stable")
    kind = [("score", "u1"), ("box", "<f4", (4,)), ("area", "<f4"), ("belief", "u1", levels.shape[1:])]
    seen = np.zeros(len(order), kind)
    seen["score"] = np.rint(scores[order] * _BYTE)
    seen["box"] = boxes[order].clip(0, 1)
    seen["belief"] = np.where(_inside_boxes(seen), levels[order], np.uint8(0))
    inside = (seen["belief"] >= EDGE).reshape(len(seen), levels.shape[1] * levels.shape[2])
    seen["area"] = inside.mean(axis=1)
    return seen[_distinct(inside)]


def _inside_boxes(seen: NDArray[Any]) -> NDArray[np.bool_]:
    """Return (n, h, w): each instance's box plus one pixel, so that its edge can be interpolated."""
    _, height, width = seen["belief"].shape
    x, y = np.arange(width) + 0.5, np.arange(height)[:, np.newaxis] + 0.5
    x0, y0, x1, y1 = (seen["box"][:, side, np.newaxis, np.newaxis] for side in range(4))
    across = (x > x0 * width - 1) & (x < x1 * width + 1)
    return np.asarray(across & (y > y0 * height - 1) & (y < y1 * height + 1))


def _distinct(inside: NDArray[np.bool_]) -> list[int]:
    """Return the row numbers of (n, pixels) that are neither empty nor nearly equal to an earlier row."""
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
    """All instances of one image, numbered from 0, highest score first."""

    records: NDArray[Any]
    """The result of `record`."""
    limits: Box
    """The whole image."""

    @classmethod
    def from_records(cls, image: Rgb, seen: NDArray[Any]) -> Instances:
        """Combine an image and the result of `record` for it."""
        return cls(seen, whole_image(image))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def areas(self) -> NDArray[np.float32]:
        """(n,), shares of the image."""
        return np.asarray(self.records["area"])

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(n, 4): x0, y0, x1, y1 in image pixels."""
        width, height = self.limits.width, self.limits.height
        return np.asarray(self.records["box"] * np.array([width, height, width, height], np.float32))

    def score(self, number: int) -> float:
        """Return the network's confidence in an instance, 0 to 1."""
        return float(self.records["score"][number]) / _BYTE

    def contain(self, points: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
        """Return (n, points): whether each instance contains the pixel under each point of the image."""
        levels, limits = self.records["belief"], self.limits
        _, height, width = levels.shape
        x, y = np.floor(np.array(points, np.float32)).T + 0.5
        columns, right = _between(x * width / limits.width - 0.5, width)
        rows, down = _between(y * height / limits.height - 0.5, height)
        corners = levels[:, rows[:, np.newaxis], columns[np.newaxis]].astype(np.float32)  # (n, 2, 2, points)
        lines = corners[:, :, 0] * (1 - right) + corners[:, :, 1] * right
        level = lines[:, 0] * (1 - down) + lines[:, 1] * down
        x0, y0, x1, y1 = self.boxes.T[..., np.newaxis]
        return np.asarray((level >= EDGE) & (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1), np.bool_)

    def overlap_with(self, area: Grey) -> tuple[NDArray[np.float32], float]:
        """Return each instance's overlap with an area (255 inside), and the area itself, as shares of the image."""
        _, height, width = self.records["belief"].shape
        small = cv2.resize(area, (width, height), interpolation=cv2.INTER_AREA) >= EDGE
        together = (self.records["belief"] >= EDGE) & small
        return together.mean(axis=(1, 2), dtype=np.float32), float(small.mean())

    def mask(self, take: Iterable[int], leave: Iterable[int] = ()) -> Grey:
        """Draw instances as one mask of the image's size, minus those of `leave`; the edge is soft."""
        mask = np.zeros((self.limits.height, self.limits.width), np.uint8)
        for number in take:
            (x0, y0, x1, y1), one = self._draw(number)
            np.maximum(mask[y0:y1, x0:x1], one, out=mask[y0:y1, x0:x1])
        for number in leave:
            (x0, y0, x1, y1), one = self._draw(number)
            np.minimum(mask[y0:y1, x0:x1], _BYTE - one, out=mask[y0:y1, x0:x1])
        return mask

    def _draw(self, number: int) -> tuple[Box, Grey]:
        x0, y0, x1, y1 = self.boxes[number].round().astype(int).tolist()
        box = Box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        level = Frame(box, box.width, box.height).sample(self.records["belief"][number], self.limits)
        return box, np.asarray(cv2.LUT(level, _SOFT), np.uint8)


def _between(at: NDArray[np.float32], size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return (2, points): the pixels on either side, and (points,): the weight of the second."""
    before = np.floor(at)
    pixels = np.stack([before, before + 1]).clip(0, size - 1).astype(np.intp)
    return pixels, (at - before).astype(np.float32)
