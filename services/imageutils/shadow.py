"""Show an extracted object on a light ground, with the soft shadow that it would throw there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from shared.errors import BadInput, TooLarge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

    Opacity: TypeAlias = NDArray[np.float32]
    """(height, width), 0..1."""

_MAX_SIDE_PX = 2048
_GROUND = 245.0  # of all three channels: #F5F5F5
_WHITE = 255.0
_ALMOST_WHITE = 250  # darker than this in any channel is the object, where no mask says better
_HIGHLIGHT = 0.01  # of the object's area
_INSIDE = 127
_EDGE_PX = 6  # so deep within the object may white be mixed in
_FOOT_PX = 12  # the same, measured from where the white ends
_SPREAD_PX = 19  # how far round an edge pixel the object's own colour is looked for, beyond the edge
_TRUST_IN_MASK = 48.0**2  # squared contrast to white at which the colours weigh as much as the mask


@dataclass(frozen=True, slots=True)
class Shadow:
    """How the shadow falls: moved by the offsets, blurred by a Gaussian window of `blur_px` (made odd)."""

    offset_x_px: int = 3
    offset_y_px: int = 5
    opacity: float = 0.4
    blur_px: int = 21


def add_shadow(extracted: Rgb, mask: Grey | None, shadow: Shadow) -> Rgb:
    """Return the object on #F5F5F5 with its shadow; both arrays are uint8, the picture is the object on white.

    Without a mask, all that is not almost white is the object. Raises BadInput if there is no object, and TooLarge
    above 2048 px a side, twice what an extraction gives.
    """
    if max(extracted.shape) > _MAX_SIDE_PX:
        raise TooLarge(f"A shadow can be shown in pictures of at most {_MAX_SIDE_PX} pixels a side.")
    outline = _find_object(extracted) if mask is None else _stretch(mask, extracted)
    if not outline.any():
        raise BadInput("There is no object in the picture.")
    solid = _solidity(extracted, outline, _EDGE_PX)
    shade = _shade(outline, shadow) * shadow.opacity
    # The picture holds colour * solid + white * (1 - solid): exchange the white for the shaded ground, and no white
    # fringe is left however soft the edge is.
    exchanged = (1 - solid) * (_WHITE - _GROUND * (1 - shade))
    return np.clip(np.rint(extracted - exchanged[..., None]), 0, 255).astype(np.uint8)


def _stretch(mask: Grey, extracted: Rgb) -> Grey:
    """Return what the mask marks as 0 and 255, stretched to the picture."""
    height, width = extracted.shape[:2]
    stretched = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.threshold(stretched, _INSIDE, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _find_object(extracted: Rgb) -> Grey:
    """Tell the object from the white round it, as 0 and 255; white spots enclosed by it are its highlights."""
    white = cv2.inRange(extracted, (_ALMOST_WHITE,) * 3, (255,) * 3)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(white)
    area = stats[:, cv2.CC_STAT_AREA]  # the first is the object's
    ground = area >= _HIGHLIGHT * area[0]
    ground[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    ground[0] = False
    # The white ends at the outer foot of the soft edge; the outline belongs where the object covers a half.
    solid = _solidity(extracted, np.where(ground[labels], 0, 255).astype(np.uint8), _FOOT_PX)
    return np.where(solid > 0.5, 255, 0).astype(np.uint8)  # noqa: PLR2004


def _solidity(extracted: Rgb, outline: Grey, edge_px: int) -> Opacity:
    """Find how much of each edge pixel is object, by least squares between white and the object's colour close by.

    Where that colour is almost white itself the outline decides instead.
    """
    # An extraction is cut where its mask is at a half: the picture's border is an edge as well.
    depth = cv2.distanceTransform(cv2.copyMakeBorder(outline, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
    depth = depth[1:-1, 1:-1]
    # Thin parts have no core: there the outline's own colour must do.
    weight = np.where(depth > edge_px, 1, outline * np.float32(0.01 / 255)).astype(np.float32)
    window = (2 * edge_px + _SPREAD_PX,) * 2
    ink = np.float32(_WHITE) - extracted.astype(np.float32)
    spread = cv2.blur(cv2.merge([weight * ink[..., channel] for channel in range(3)]), window)
    full_ink = np.asarray(spread / np.maximum(cv2.blur(weight, window), 1e-6)[..., None], np.float32)
    guess = cv2.GaussianBlur(outline, (3, 3), 0).astype(np.float32) / 255
    solid = (_dot(ink, full_ink) + _TRUST_IN_MASK * guess) / (_dot(full_ink, full_ink) + _TRUST_IN_MASK)
    # A light spot near the edge looks like mixed-in white, but the deeper it lies the less can it be that.
    return np.asarray(np.clip(np.maximum(solid, depth / edge_px), 0, 1), np.float32)


def _dot(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("hwc,hwc->hw", first, second))


def _shade(outline: Grey, shadow: Shadow) -> Opacity:
    """Move the outline, let it fade from its foot (1) to its top (0) as light fills in there, and blur it."""
    _, top, _, height = cv2.boundingRect(outline)
    moved = cv2.warpAffine(
        outline.astype(np.float32) / 255,
        np.array([[1, 0, shadow.offset_x_px], [0, 1, shadow.offset_y_px]], np.float32),
        outline.shape[::-1],
        flags=cv2.INTER_NEAREST,
    )
    rows = np.arange(outline.shape[0], dtype=np.float32)
    fade = np.clip((rows - top - shadow.offset_y_px) / max(1, height - 1), 0, 1)
    window = shadow.blur_px | 1
    return np.asarray(cv2.GaussianBlur(moved * fade[:, None], (window, window), 0, borderType=cv2.BORDER_REPLICATE))
