"""Small images for tests in which their content does not matter."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture(colour: tuple[int, int, int], box: tuple[int, int, int, int] | None = None) -> bytes:
    """Return a PNG of 16 x 16 pixels of one colour, black around the box."""
    image = Image.new("RGB", (16, 16), colour if box is None else (0, 0, 0))
    if box is not None:
        image.paste(colour, box)
    return _png(image)


def noise(side_px: int) -> bytes:
    """Return a square, incompressible PNG: about three bytes per pixel."""
    dice = np.random.default_rng(1)
    return _png(Image.fromarray(dice.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
