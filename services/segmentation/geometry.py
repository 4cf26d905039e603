"""Boxes of an image, and frames: boxes shrunk to the size at which the engines work."""

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
    """A rectangle of whole image pixels; x1 and y1 are exclusive."""

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
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array of the image's size."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def long_side(self) -> int:
        """The larger of width and height."""
        return max(self.width, self.height)

    def with_margin(self, margin_px: float, limits: Box) -> Box:
        """Add a margin on all sides, clipped to the limits."""
        margin = round(margin_px)
        return Box(
            max(limits.x0, self.x0 - margin),
            max(limits.y0, self.y0 - margin),
            min(limits.x1, self.x1 + margin),
            min(limits.y1, self.y1 + margin),
        )

    def measure_overlap(self, other: Box) -> float:
        """Return the intersection over union, 0 to 1."""
        across = min(self.x1, other.x1) - max(self.x0, other.x0)
        down = min(self.y1, other.y1) - max(self.y0, other.y0)
        shared = max(0, across) * max(0, down)
        return shared / (self.width * self.height + other.width * other.height - shared)

    def contains(self, x: float, y: float) -> bool:
        """Return whether the point lies inside."""
        return self.x0 <= x < self.x1 and self.y0 <= y < self.y1

    def encloses(self, other: Box) -> bool:
        """Return whether the other box lies inside."""
        return self.x0 <= other.x0 and self.y0 <= other.y0 and other.x1 <= self.x1 and other.y1 <= self.y1


def whole_image(pixels: Pixels) -> Box:
    """Return the box that covers the image."""
    height, width = pixels.shape[:2]
    return Box(0, 0, width, height)


def square_box(x: float, y: float, side_px: int, limits: Box) -> Box:
    """Return a square centred on a point, moved inside the limits, and cut if the limits are narrower."""
    width, height = min(side_px, limits.width), min(side_px, limits.height)
    x0 = min(max(limits.x0, round(x) - width // 2), limits.x1 - width)
    y0 = min(max(limits.y0, round(y) - height // 2), limits.y1 - height)
    return Box(x0, y0, x0 + width, y0 + height)


def bounding_box(mask: Pixels) -> Box | None:
    """Return the bounding box of the non-zero pixels, or None if there are none."""
    x, y, width, height = cv2.boundingRect(mask)
    return Box(x, y, x + width, y + height) if width else None


def enclosing_box(points: Iterable[tuple[float, float]]) -> Box:
    """Return the smallest box that contains all points (at least one)."""
    places = list(points)
    columns, rows = [int(x) for x, _ in places], [int(y) for _, y in places]
    return Box(min(columns), min(rows), max(columns) + 1, max(rows) + 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """A window of the image and the size in pixels to which it is shrunk (never enlarged)."""

    window: Box
    width: int
    height: int

    @classmethod
    def fit(cls, window: Box, long_side_px: int) -> Frame:
        """Return the frame of a window, its longer side at most this many pixels."""
        scale = min(1.0, long_side_px / window.long_side)
        return cls(window, max(1, round(window.width * scale)), max(1, round(window.height * scale)))

    @property
    def scale(self) -> float:
        """Frame pixels per image pixel, along the longer side."""
        return max(self.width, self.height) / self.window.long_side

    def crop(self, pixels: Pixels) -> Pixels:
        """Cut the window out of an image or mask and shrink it to the frame."""
        return resize(pixels[self.window.slices], self.width, self.height)

    def to_frame(self, x: float, y: float) -> tuple[float, float]:
        """Convert a point from image pixels to frame pixels."""
        return (
            (x - self.window.x0) * self.width / self.window.width,
            (y - self.window.y0) * self.height / self.window.height,
        )

    def to_image(self, box: Box) -> Box:
        """Convert a box from frame pixels to the image pixels that it covers."""
        across, down = self.window.width / self.width, self.window.height / self.height
        return Box(
            self.window.x0 + int(box.x0 * across),
            self.window.y0 + int(box.y0 * down),
            min(self.window.x1, self.window.x0 + int(np.ceil(box.x1 * across))),
            min(self.window.y1, self.window.y0 + int(np.ceil(box.y1 * down))),
        )

    def sample(self, pixels: Grey, window: Box) -> Grey:
        """Resample a map of another window, of any size, to this frame; 0 outside that window."""
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
    """Resize by area when shrinking (no aliasing), by cubic interpolation when enlarging."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=kind))
