"""The frame that a picture is edited in: not larger than the model is good at, and of sides it can work with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb

STEP_PX = 16  # of the sides: latents are an eighth of the picture, and packed two by two
_LEAST_PX = 64


@dataclass(frozen=True, slots=True)
class Frame:
    """The way from a picture of `width` x `height` into the frame (scale down, pad right and below) and back."""

    width: int
    height: int
    inner: tuple[int, int]  # width and height of the picture inside the frame
    outer: tuple[int, int]  # of the frame

    @classmethod
    def of(cls, picture: Rgb, area: int) -> Frame:
        """Return the frame of a picture; the picture in it has at most that many pixels."""
        height, width = picture.shape[:2]
        scale = min(1.0, math.sqrt(area / (width * height)))
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        outer = tuple(max(_LEAST_PX, math.ceil(side / STEP_PX) * STEP_PX) for side in inner)
        return cls(width, height, inner, (outer[0], outer[1]))

    def enter(self, picture: Rgb) -> Rgb:
        """Bring a picture in; the rim goes on into the padding."""
        return self._padded(_scaled(picture, self.inner), cv2.BORDER_REPLICATE)

    def enter_mask(self, mask: Grey) -> Grey:
        """Bring a mask in as 0 and 255; no marked pixel is lost, and the padding is not marked."""
        marked = np.where(mask > 128, np.uint8(255), np.uint8(0))  # noqa: PLR2004
        small = _scaled(marked, self.inner)
        return self._padded(np.where(small > 0, np.uint8(255), np.uint8(0)), cv2.BORDER_CONSTANT)

    def enter_grey(self, grey: Grey) -> Grey:
        """Bring soft values in."""
        return self._padded(_scaled(grey, self.inner), cv2.BORDER_REPLICATE)

    def leave(self, framed: Rgb | Grey) -> Rgb:
        """Cut the padding off and scale to the picture's size."""
        width, height = self.inner
        return _scaled(framed[:height, :width], (self.width, self.height))

    def _padded(self, picture: Rgb, border: int) -> Rgb:
        right, below = self.outer[0] - self.inner[0], self.outer[1] - self.inner[1]
        return np.asarray(cv2.copyMakeBorder(picture, 0, below, 0, right, border), np.uint8)


def _scaled(picture: Rgb | Grey, size: tuple[int, int]) -> Rgb:
    if picture.shape[1::-1] == size:
        return np.ascontiguousarray(picture)
    how = cv2.INTER_AREA if size[0] < picture.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)
