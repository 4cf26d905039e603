"""Finds the object in a reference image: by its mask, its white background, or its saliency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.placement import MASK_THRESHOLD, bounding_box

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.image_codec import Grey, Rgb

_WHITE = 250  # darker than this in any channel is not white
_WHITE_RIM = 0.9  # of the outermost pixels: a white background has at least this share of white
_WHITE_OUTSIDE = 0.9
_SPECK = 0.02  # share of the largest part: smaller parts are dropped


def object_mask(reference: Rgb, mask: Grey | None, saliency: Callable[[], Grey | None]) -> Grey | None:
    """Return the object as 0 and 255, of the reference's size, or None if it cannot be found.

    The mask may have any size, and may belong to the image that the reference was extracted from (see `align_mask`).
    An all-black mask counts as none. Saliency (of the reference's size) is fetched last, if needed.
    """
    if mask is not None and marks_something(mask):
        return align_mask(reference, mask)
    background = _find_background(reference)
    if _outermost(background).mean() / 255 >= _WHITE_RIM and not background.all():
        return _drop_specks(~background)
    salient = saliency()
    if salient is None or not (salient > MASK_THRESHOLD).any():
        return None
    return _drop_specks(_binarise(salient))


def marks_something(mask: Grey | None) -> bool:
    """Return whether the mask marks any pixel. Clients send an all-black mask after the eraser was used."""
    return mask is not None and bool((mask > MASK_THRESHOLD).any())


def align_mask(reference: Rgb, mask: Grey) -> Grey:
    """Transform a mask into the reference's frame, if it is not drawn there already.

    Clients may send an object that was extracted into a white square, together with a mask in the frame of the original
    image. Assume this if the mask, fitted into the square like the object, leaves white outside and covers the coloured
    pixels better than the unchanged mask.
    """
    height, width = reference.shape[:2]
    plain = _binarise(np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8))
    if height != width:
        return plain
    coloured = ~_find_white(reference)
    moved = _fit_into_square(mask, height)
    outside = ~np.asarray(cv2.dilate(moved, np.ones((5, 5), np.uint8)), np.uint8)
    clean = 1 - cv2.mean(coloured, mask=outside)[0] / 255
    if clean < _WHITE_OUTSIDE or _overlap(moved, coloured) <= _overlap(plain, coloured):
        return plain
    # White from the extraction is connected to the rim and is no part of the object.
    return moved & ~_find_background(reference)


def _fit_into_square(mask: Grey, side: int) -> Grey:
    """Transform the mask as an extraction does: crop to its box, fit into a square (rounded down), centre."""
    binary = _binarise(mask)
    box = bounding_box(binary)
    square = np.zeros((side, side), np.uint8)
    if box is None:
        return square
    scale = min(side / box.width, side / box.height)
    width, height = max(1, int(box.width * scale)), max(1, int(box.height * scale))
    left, top = (side - width) // 2, (side - height) // 2
    fitted = np.asarray(cv2.resize(binary[box.slices], (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    square[top : top + height, left : left + width] = _binarise(fitted)
    return square


def _binarise(mask: Grey) -> Grey:
    return np.where(mask > MASK_THRESHOLD, np.uint8(255), np.uint8(0))


def _find_white(image: Rgb) -> Grey:
    return np.asarray(cv2.inRange(image, (_WHITE,) * 3, (255,) * 3), np.uint8)


def _find_background(image: Rgb) -> Grey:
    """Mark the white that is connected to the rim. White inside the object is not background."""
    white = cv2.copyMakeBorder(_find_white(image), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=255)
    cv2.floodFill(white, None, (0, 0), 128)
    return np.where(white[1:-1, 1:-1] == 128, np.uint8(255), np.uint8(0))  # noqa: PLR2004


def _outermost(image: Grey) -> Grey:
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def _overlap(first: Grey, second: Grey) -> float:
    """Return intersection over union."""
    return int(np.count_nonzero(first & second)) / max(1, int(np.count_nonzero(first | second)))


def _drop_specks(mask: Grey) -> Grey:
    """Drop connected parts below 2 % of the largest one."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    keep = areas >= max(1.0, _SPECK * areas.max())
    return np.where(keep[labels], np.uint8(255), np.uint8(0))
