"""The square window in which LaMa fills a hole: at native size if the hole fits, else the whole window is scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.backends.lama.child import SIDE_PX
from services.a100worker.imaging.grain import add_grain
from services.a100worker.imaging.placement import Box, bounding_box

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.a100worker.imaging.holes import Hole
    from shared.image_codec import Grey, Rgb

_FITS_PX = 400  # the hole's long side: a native window then has 56 pixels on each side of it
_CONTEXT = 1.5  # hole sides: the side of a larger hole's window


def fill_in_square(image: Rgb, part: Hole, unknown: Grey, paint: Callable[[Rgb, Grey], Rgb], seed: int) -> None:
    """Fill one hole of the image, in place, with `paint`, which gets an image and a mask of 512 x 512 pixels.

    The window is mirrored where it reaches past the image. A scaled fill gets the grain of the image around the hole.
    """
    inner = bounding_box(part.mask)
    if inner is None:
        return
    box = Box(part.window.x + inner.x, part.window.y + inner.y, inner.width, inner.height)
    long_side = max(box.width, box.height)
    side = SIDE_PX if long_side <= _FITS_PX else round(_CONTEXT * long_side)
    window = _window(box, side, image)
    region = np.zeros((window.height, window.width), np.uint8)
    region[Box(box.x - window.x, box.y - window.y, box.width, box.height).slices] = part.mask[inner.slices]
    photo, scale = np.ascontiguousarray(image[window.slices]), SIDE_PX / side
    size = max(1, round(window.width * scale)), max(1, round(window.height * scale))
    hole, not_known = _mark(region, size), _mark(unknown[window.slices] | region, size)
    painted = paint(_to_square(_shrink(photo, size)), _to_square(not_known))
    filled = np.ascontiguousarray(painted[: size[1], : size[0]])
    if scale < 1:
        filled = add_grain(photo, filled, hole, not_known & ~hole, seed)
    image[window.slices][region > 0] = filled[region > 0]


def _window(around: Box, side: int, image: Rgb) -> Box:
    """Return a square centred on a box, moved inside the image, and cut where the image is narrower."""
    x, y = around.x + around.width // 2, around.y + around.height // 2
    height, width = (min(side, length) for length in image.shape[:2])
    left = min(max(0, x - width // 2), image.shape[1] - width)
    top = min(max(0, y - height // 2), image.shape[0] - height)
    return Box(left, top, width, height)


def _shrink(photo: Rgb, size: tuple[int, int]) -> Rgb:
    if size == photo.shape[1::-1]:
        return photo
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


def _mark(mask: Grey, size: tuple[int, int]) -> Grey:
    """Shrink a mask. A small pixel is marked if any of its original pixels is."""
    area = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    return np.where(area > 0, np.uint8(255), np.uint8(0))


def _to_square(pixels: Rgb) -> Rgb:
    """Continue an image or mask to the right and down by its mirror image; it stays at the top left."""
    down, across = (SIDE_PX - length for length in pixels.shape[:2])
    return np.pad(pixels, ((0, down), (0, across), (0, 0))[: pixels.ndim], mode="symmetric")
