"""The images of a white balance: the whole photo, and its edges."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.backend import grey_to_rgb
from services.a100worker.backends.qwen.frames import Frame
from services.a100worker.backends.qwen.recipes.recipe import View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.image_codec import Grey, Rgb

_CANNY_SIGMA = 0.33


class BalanceScene:
    """The whole photo at the model's favourite size."""

    region: Grey | None = None

    def __init__(self, image: Rgb, area: int) -> None:
        self.frame = Frame.of(image.shape[1], image.shape[0], area)
        self.photo = self.frame.enter(image)
        self._image = image

    @property
    def views(self) -> Mapping[View, Callable[[], Rgb]]:
        """See Scene."""
        return {View.PHOTO: lambda: self.photo, View.EDGES: lambda: self.edges}

    @cached_property
    def edges(self) -> Rgb:
        """White on black. Edges of a small photo are found at its own size: an enlarged photo has hardly any."""
        if self.frame.scale > 1:
            return grey_to_rgb(self.frame.enter_mask(canny(self._image)))
        return grey_to_rgb(canny(self.photo))


def canny(image: Rgb) -> Grey:
    """Return white edges on black, with thresholds a third below and above the median of the smoothed image."""
    grey = cv2.bilateralFilter(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 9, 75, 75)
    median = float(np.median(grey))
    low, high = max(0, int((1 - _CANNY_SIGMA) * median)), min(255, int((1 + _CANNY_SIGMA) * median))
    return np.asarray(cv2.Canny(grey, low, high), np.uint8)
