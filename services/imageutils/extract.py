"""Cut an object out of a photo and fit it into a white square, as the web client stores reference objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from services.imageutils.bands import split_rows
from shared.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

_INSIDE = 128  # a mask pixel brighter than this is inside
_SMALL_SIDE_PX = 512
_LARGE_SIDE_PX = 1024


def extract_object(image: Rgb, mask: Grey) -> Rgb:
    """Return the masked object, scaled to touch two sides of a white square of 512 or 1024 px, as uint8 RGB.

    A mask of another size is stretched to the image first. The scaled mask is the object's opacity: a soft edge stays
    soft. Raises BadInput if the mask is empty.
    """
    stretched = _stretch(mask, image)
    left, top, right, bottom = _bounds(stretched)
    width, height = right - left, bottom - top
    side = _SMALL_SIDE_PX if max(width, height) <= _SMALL_SIDE_PX else _LARGE_SIDE_PX
    scale = min(side / width, side / height)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    cut = _scale(image[top:bottom, left:right], stretched[top:bottom, left:right], size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(cut, ((side - size[0]) // 2, (side - size[1]) // 2), cut.getchannel("X"))
    return np.array(square)


def _stretch(mask: Grey, image: Rgb) -> Grey:
    height, width = image.shape[:2]
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _bounds(mask: Grey) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the pixels inside; right and bottom are exclusive."""
    inside = mask > _INSIDE
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    if not len(columns):
        raise BadInput("The mask is empty: mark the object first.")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _scale(rgb: Rgb, mask: Grey, size: tuple[int, int]) -> Image.Image:
    """Scale image and mask together: Pillow filters each channel by itself, so the mask is the unused fourth one."""
    # Pillow instead of OpenCV: its Lanczos filter widens for shrinking, and clients compare the exact bytes. It filters
    # rows first and then columns, so that bands of narrowed rows give the same bytes without a copy of the whole photo.
    narrow = np.concatenate([_narrow(rgb[at], mask[at], size[0]) for at in split_rows(mask.shape)])
    return _as_image(narrow).resize(size, Image.Resampling.LANCZOS)


def _narrow(rgb: Rgb, mask: Grey, width: int) -> NDArray[np.uint8]:
    four = np.asarray(cv2.insertChannel(mask, cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA), 3), np.uint8)
    return np.asarray(_as_image(four).resize((width, len(mask)), Image.Resampling.LANCZOS))


def _as_image(four: NDArray[np.uint8]) -> Image.Image:
    return Image.frombuffer("RGBX", four.shape[1::-1], four, "raw", "RGBX", 0, 1)
