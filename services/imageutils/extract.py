"""Cut an object out of a photo and fit it into a square: white, as the web client stores it, or transparent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from services.imageutils.bands import split_rows
from shared.errors import BadInput
from shared.foreground import estimate_colours, soften
from shared.transparency import own_colours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Grey, Photo, Rgb, Rgba

_INSIDE = 128  # a mask pixel brighter than this is inside
_SMALL_SIDE_PX = 512
_LARGE_SIDE_PX = 1024


def extract_object(image: Rgb, mask: Grey) -> Rgb:
    """Return the masked object, scaled to touch two sides of a white square of 512 or 1024 px, as uint8 RGB.

    A mask of another size is stretched to the image first. The scaled mask is the object's opacity: a soft edge stays
    soft. Raises BadInput if the mask is empty.
    """
    cut, place, side = _fit(image, mask)
    square = Image.new("RGB", (side, side), "white")
    square.paste(cut, place, cut.getchannel("X"))
    return np.array(square)


def cut_out_object(photo: Photo, mask: Grey) -> Rgba:
    """Return the masked object in the same place on a transparent square, as uint8 RGBA, without the background's rim.

    The opacity follows the object's outline, and the colours of its soft edge are the object's own, as in an insertion.
    Transparent parts of the photo stay transparent. Raises BadInput if the mask is empty.
    """
    opacity = None if photo.rgba is None else visible(photo.rgba, mask)
    cut, (left, top), side = _fit(own_colours(photo), mask, opacity)
    four = np.asarray(cut).astype(np.float32) / np.float32(255)
    colours, solid = np.ascontiguousarray(four[..., :3]), np.ascontiguousarray(four[..., 3])
    alpha = soften(colours, solid)
    straight = np.where(alpha[..., None] > 0, estimate_colours(colours, alpha), np.float32(0))
    square = np.zeros((side, side, 4), np.uint8)
    inner = square[top : top + four.shape[0], left : left + four.shape[1]]
    inner[...] = np.rint(np.concatenate([straight, alpha[..., None]], axis=2) * 255).astype(np.uint8)
    return square


def visible(rgba: Rgba, mask: Grey) -> Grey:
    """Return the mask, in the photo's size, without the transparent parts of the photo."""
    return np.asarray(cv2.multiply(stretch(mask, rgba), np.ascontiguousarray(rgba[..., 3]), scale=1 / 255), np.uint8)


def _fit(image: Rgb, mask: Grey, opacity: Grey | None = None) -> tuple[Image.Image, tuple[int, int], int]:
    """Return the object's scaled box with its opacity as channel 4, its place in the square, and the square's side.

    If `opacity` is None, the mask is the opacity.
    """
    stretched = stretch(mask, image)
    left, top, right, bottom = bounds(stretched, opacity)
    opacity = stretched if opacity is None else opacity
    width, height = right - left, bottom - top
    side = _SMALL_SIDE_PX if max(width, height) <= _SMALL_SIDE_PX else _LARGE_SIDE_PX
    scale = min(side / width, side / height)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    cut = _scale(image[top:bottom, left:right], opacity[top:bottom, left:right], size)
    return cut, ((side - size[0]) // 2, (side - size[1]) // 2), side


def stretch(mask: Grey, image: Rgb | Rgba) -> Grey:
    """Return the mask in the size of the image."""
    height, width = image.shape[:2]
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def bounds(mask: Grey, opacity: Grey | None = None) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the pixels inside; right and bottom are exclusive.

    With an `opacity`, which may be low, they are those of all visible pixels. Raises BadInput if there are none.
    """
    inside = mask > _INSIDE if opacity is None else (mask > _INSIDE) & (opacity > 0)
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    if not len(columns):
        raise BadInput(
            "The mask is empty: mark the object first."
            if opacity is None
            else "The mask is empty, or the photo is transparent there: mark the object first."
        )
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
