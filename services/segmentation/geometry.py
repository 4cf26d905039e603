"""Rectangles of a picture, and the smaller size at which one of them is worked on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from shared.image_codec import Grey

    Pixels: TypeAlias = NDArray[np.uint8]
    """(height, width) or (height, width, 3)."""


class Box(NamedTuple):
    """Whole pixels of the picture; x1 and y1 are outside."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.y1 - self.y0

    @property
    def long_side(self) -> int:
        """The larger of width and height."""
        return max(self.width, self.height)

    def with_margin(self, margin_px: float, limits: Box) -> Box:
        """Add a margin on all sides and stay inside the limits."""
        margin = round(margin_px)
        return Box(
            max(limits.x0, self.x0 - margin),
            max(limits.y0, self.y0 - margin),
            min(limits.x1, self.x1 + margin),
            min(limits.y1, self.y1 + margin),
        )

    def contains(self, x: float, y: float) -> bool:
        """Whether the point lies inside."""
        return self.x0 <= x < self.x1 and self.y0 <= y < self.y1


def whole_image(pixels: Pixels) -> Box:
    """Return the window that is the picture."""
    height, width = pixels.shape[:2]
    return Box(0, 0, width, height)


def square_box(x: float, y: float, side_px: int, limits: Box) -> Box:
    """Return the square round a point, moved (and, where the picture is narrower, cut) to lie inside the limits."""
    width, height = min(side_px, limits.width), min(side_px, limits.height)
    x0 = min(max(limits.x0, round(x) - width // 2), limits.x1 - width)
    y0 = min(max(limits.y0, round(y) - height // 2), limits.y1 - height)
    return Box(x0, y0, x0 + width, y0 + height)


def bounding_box(mask: Pixels) -> Box | None:
    """Return the bounding box of what is not 0, or None if nothing is."""
    x, y, width, height = cv2.boundingRect(mask)
    return Box(x, y, x + width, y + height) if width else None


def enclosing_box(points: Iterable[tuple[float, float]]) -> Box:
    """Return the smallest window that holds all the points (at least one)."""
    places = list(points)
    columns, rows = [int(x) for x, _ in places], [int(y) for _, y in places]
    return Box(min(columns), min(rows), max(columns) + 1, max(rows) + 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """A window and the size, in pixels, at which it is worked on (never larger than the window)."""

    window: Box
    width: int
    height: int

    @classmethod
    def fit(cls, window: Box, long_side_px: int) -> Frame:
        """Shrink the window so that its longer side has at most this many pixels."""
        scale = min(1.0, long_side_px / window.long_side)
        return cls(window, max(1, round(window.width * scale)), max(1, round(window.height * scale)))

    @property
    def scale(self) -> float:
        """Work pixels per picture pixel, along the longer side."""
        return max(self.width, self.height) / self.window.long_side

    def crop(self, pixels: Pixels) -> Pixels:
        """Cut the window out of a picture (or mask) and shrink it."""
        x0, y0, x1, y1 = self.window
        return resize(pixels[y0:y1, x0:x1], self.width, self.height)

    def to_frame(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the picture lies in this frame, in work pixels."""
        return (
            (x - self.window.x0) * self.width / self.window.width,
            (y - self.window.y0) * self.height / self.window.height,
        )

    def to_image(self, box: Box) -> Box:
        """Turn a box in work pixels into the window of the picture that it covers."""
        across, down = self.window.width / self.width, self.window.height / self.height
        return Box(
            self.window.x0 + int(box.x0 * across),
            self.window.y0 + int(box.y0 * down),
            min(self.window.x1, self.window.x0 + int(np.ceil(box.x1 * across))),
            min(self.window.y1, self.window.y0 + int(np.ceil(box.y1 * down))),
        )

    def sample(self, pixels: Grey, window: Box) -> Grey:
        """Sample a grey map that covers another window, of any size; 0 where that window does not reach."""
        height, width = pixels.shape
        across, down = width / window.width, height / window.height
        step_x, step_y = self.window.width / self.width, self.window.height / self.height
        to_map = np.array([
            [step_x * across, 0.0, (self.window.x0 + step_x / 2 - window.x0) * across - 0.5],
            [0.0, step_y * down, (self.window.y0 + step_y / 2 - window.y0) * down - 0.5],
        ])  # fmt: skip
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = self.width, self.height
        sampled = np.asarray(
            cv2.warpAffine(pixels, to_map, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )
        self._blank_outside(sampled, window)
        return sampled

    def _blank_outside(self, pixels: Grey, window: Box) -> None:
        left, top = self.to_frame(window.x0, window.y0)
        right, bottom = self.to_frame(window.x1, window.y1)
        pixels[: max(0, round(top))] = 0
        pixels[max(0, round(bottom)) :] = 0
        pixels[:, : max(0, round(left))] = 0
        pixels[:, max(0, round(right)) :] = 0


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize by area where it shrinks (no aliasing), by cubic where it grows."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=kind))
