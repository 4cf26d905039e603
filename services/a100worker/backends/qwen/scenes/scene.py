"""A scene: one window of one job in the model's frame, with all images that a recipe can use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.a100worker.backends.qwen.frames import Frame
    from services.a100worker.backends.qwen.recipes.recipe import View
    from shared.image_codec import Grey, Rgb

TINT: tuple[int, int, int] = (255, 0, 255)
"""Magenta: rare in photos, and the recipes' words name it."""
_TINT_SHARE = 0.6


class Scene(Protocol):
    """One window of one job."""

    @property
    def frame(self) -> Frame:
        """Maps the window into the model's image and back."""

    @property
    def photo(self) -> Rgb:
        """The window's part of the photo, in the frame."""

    @property
    def region(self) -> Grey | None:
        """The weight of the painted pixels, 0..255, of the window's size. None: the whole photo may change."""

    @property
    def views(self) -> Mapping[View, Callable[[], Rgb]]:
        """The images that can be drawn, all of the frame's size."""


def draw(scene: Scene, view: View) -> Rgb:
    """Return an image of the scene. Raises ConfigError if its task has no such image."""
    if view not in scene.views:
        raise ConfigError(f"The recipe shows {view!r}, which this task does not have.")
    return scene.views[view]()


def blacken(image: Rgb, mask: Grey) -> Rgb:
    """Black out the masked pixels in proportion to the mask."""
    kept = 255 - mask.astype(np.uint16)[..., None]
    return np.asarray((image * kept + 127) // 255, np.uint8)


def tint(image: Rgb, mask: Grey) -> Rgb:
    """Lay magenta over the masked pixels; the shapes below stay visible."""
    share = mask[..., None].astype(np.float32) * np.float32(_TINT_SHARE / 255)
    return np.asarray(np.rint(image * (1 - share) + np.array(TINT, np.float32) * share), np.uint8)


def disc(radius: int) -> Grey:
    """Return a round structuring element."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2), np.uint8)
