"""Which pixels of a reference picture are the object: from its mask, its white ground, or what stands out in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.placement import MASK_THRESHOLD, bounding_box

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.image_codec import Grey, Rgb

_WHITE = 250  # darker than this in any channel is not white
_WHITE_RIM = 0.9  # share of the outermost pixels that makes a white ground
_WHITE_OUTSIDE = 0.9
_SPECK = 0.02  # of the largest part


def object_mask(reference: Rgb, mask: Grey | None, saliency: Callable[[], Grey | None]) -> Grey | None:
    """Return the object as 0 and 255, of the reference's size; None where nothing tells it from the rest.

    The mask may have any size, and may belong to the picture that the reference was extracted from (see `aligned`). An
    all-black mask counts as none. Saliency (of the reference's size) is asked for last.
    """
    if mask is not None and marks_something(mask):
        return aligned(reference, mask)
    ground = _ground(reference)
    if _rim(ground).mean() / 255 >= _WHITE_RIM and not ground.all():
        return _cleaned(~ground)
    standing_out = saliency()
    if standing_out is None or not (standing_out > MASK_THRESHOLD).any():
        return None
    return _cleaned(_binary(standing_out))


def marks_something(mask: Grey | None) -> bool:
    """Tell a mask from none and from an all-black one, which clients send after the eraser was used."""
    return mask is not None and bool((mask > MASK_THRESHOLD).any())


def aligned(reference: Rgb, mask: Grey) -> Grey:
    """Bring a mask into the reference's frame.

    Clients may send an object that was extracted into a white square together with a mask in the frame of the picture
    it came from. If the mask, fitted into the square as the object was, leaves white outside, and covers what is not
    white better than the mask as it is, that is what happened.
    """
    height, width = reference.shape[:2]
    plain = _binary(np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8))
    if height != width:
        return plain
    coloured = ~_white(reference)
    moved = _extracted(mask, height)
    outside = ~np.asarray(cv2.dilate(moved, np.ones((5, 5), np.uint8)), np.uint8)
    clean = 1 - cv2.mean(coloured, mask=outside)[0] / 255
    if clean < _WHITE_OUTSIDE or _overlap(moved, coloured) <= _overlap(plain, coloured):
        return plain
    # The extraction's own white, as far as it reaches in from the rim, is no part of the object.
    return moved & ~_ground(reference)


def _extracted(mask: Grey, side: int) -> Grey:
    """Do to the mask what an extraction does: crop to its box, fit into a square (rounded down), centre."""
    binary = _binary(mask)
    box = bounding_box(binary)
    square = np.zeros((side, side), np.uint8)
    if box is None:
        return square
    scale = min(side / box.width, side / box.height)
    width, height = max(1, int(box.width * scale)), max(1, int(box.height * scale))
    left, top = (side - width) // 2, (side - height) // 2
    fitted = np.asarray(cv2.resize(binary[box.window], (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    square[top : top + height, left : left + width] = _binary(fitted)
    return square


def _binary(mask: Grey) -> Grey:
    return np.where(mask > MASK_THRESHOLD, np.uint8(255), np.uint8(0))


def _white(picture: Rgb) -> Grey:
    return np.asarray(cv2.inRange(picture, (_WHITE,) * 3, (255,) * 3), np.uint8)


def _ground(picture: Rgb) -> Grey:
    """Mark the white that reaches the picture's rim; white inside the object is not ground."""
    white = cv2.copyMakeBorder(_white(picture), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=255)
    cv2.floodFill(white, None, (0, 0), 128)
    return np.where(white[1:-1, 1:-1] == 128, np.uint8(255), np.uint8(0))  # noqa: PLR2004


def _rim(picture: Grey) -> Grey:
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def _overlap(first: Grey, second: Grey) -> float:
    """Return intersection over union."""
    return int(np.count_nonzero(first & second)) / max(1, int(np.count_nonzero(first | second)))


def _cleaned(mask: Grey) -> Grey:
    """Drop what is tiny beside the largest part."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    keep = areas >= max(1.0, _SPECK * areas.max())
    return np.where(keep[labels], np.uint8(255), np.uint8(0))
