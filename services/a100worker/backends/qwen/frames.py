"""Frames: scales a part of a photo to a size that the model paints well, and scales the result back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.placement import MASK_THRESHOLD

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb

STEP_PX = 32
"""Sides of a frame are multiples of it. The pipeline rounds shown images to 32, so 16 would give them other grids."""
LEAST_PX = 64
_MOST_STRETCH = 0.03
_LONGEST = 4  # sides of a square with the working area: a longer strip leaves the model's range of positions


@dataclass(frozen=True, slots=True)
class Frame:
    """Maps pixels of `width` x `height` into a frame (scale, then pad right and below) and back."""

    width: int
    height: int
    inner: tuple[int, int]  # width and height of the scaled pixels inside the frame
    outer: tuple[int, int]  # of the frame

    @classmethod
    def of(cls, width: int, height: int, area: int, least: int | None = None) -> Frame:
        """Return a frame of about `area` pixels; with `least`, a smaller photo keeps its size.

        Without `least`, photos of all sizes are scaled to that area. With it, a photo keeps its size unless it exceeds
        the area or one side is shorter than `least` pixels. A scaled photo fills its frame, unless it is very narrow.
        """
        scale = math.sqrt(area / (width * height))
        if least is not None:
            scale = min(scale, max(1.0, least / min(width, height)))
        scale = min(scale, _LONGEST * math.sqrt(area) / max(width, height))
        if scale != 1 and (filling := _filling(width, height, scale)) is not None:
            return cls(width, height, filling, filling)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(width, height, inner, (_side(inner[0]), _side(inner[1])))

    @property
    def scale(self) -> float:
        """Frame pixels for each photo pixel; below 1 the frame shows less detail than the photo has."""
        return math.sqrt(self.inner[0] * self.inner[1] / (self.width * self.height))

    def enter(self, image: Rgb) -> Rgb:
        """Scale and pad an image. The padding mirrors it: the model would treat streaks or a black bar as an object.

        Only photos that keep their size, or very narrow ones, are padded; see `_filling`.
        """
        return self._pad(_scale(image, self.inner), cv2.BORDER_REFLECT)

    def enter_mask(self, mask: Grey) -> Grey:
        """Scale and pad a mask to 0 and 255; no marked pixel is lost, and the padding is not marked."""
        marked = np.where(mask > MASK_THRESHOLD, np.uint8(255), np.uint8(0))
        scaled = _scale(marked, self.inner)
        limit = 0 if self.scale < 1 else MASK_THRESHOLD  # an enlarged edge overshoots; the mask must not grow there
        return self._pad(np.where(scaled > limit, np.uint8(255), np.uint8(0)), cv2.BORDER_CONSTANT)

    def enter_grey(self, grey: Grey) -> Grey:
        """Scale and pad soft values."""
        return self._pad(_scale(grey, self.inner), cv2.BORDER_REFLECT)

    def crop(self, framed: Rgb | Grey) -> Rgb:
        """Cut the padding off."""
        width, height = self.inner
        return framed[:height, :width]

    def leave(self, framed: Rgb | Grey) -> Rgb:
        """Cut the padding off and scale to the original size."""
        return _scale(self.crop(framed), (self.width, self.height))

    def _pad(self, image: Rgb, border: int) -> Rgb:
        right, below = self.outer[0] - self.inner[0], self.outer[1] - self.inner[1]
        return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, border), np.uint8)


def _filling(width: int, height: int, scale: float) -> tuple[int, int] | None:
    """Return sides that are multiples of 32, so that a frame needs no padding and shows only pixels of the photo.

    The short side is rounded down, which decides the scale; the long one then differs by at most 16 px. Returns None
    where that would change the proportions visibly.
    """
    short = int(min(width, height) * scale) // STEP_PX * STEP_PX
    wanted = max(width, height) * short / min(width, height)
    long = round(wanted / STEP_PX) * STEP_PX
    if short < LEAST_PX or abs(long / wanted - 1) > _MOST_STRETCH:
        return None
    return (short, long) if width < height else (long, short)


def _side(inner: int) -> int:
    return max(LEAST_PX, math.ceil(inner / STEP_PX) * STEP_PX)


def _scale(image: Rgb | Grey, size: tuple[int, int]) -> Rgb:
    if image.shape[1::-1] == size:
        return np.ascontiguousarray(image)
    how = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
