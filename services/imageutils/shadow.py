"""Draw an extracted object on a light background with a soft shadow."""

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
_GROUND = 245.0  # the value of all three channels: #F5F5F5
_WHITE = 255.0
_ALMOST_WHITE = 250  # without a mask, a pixel below this in any channel is object
_HIGHLIGHT = 0.01  # share of the object's area
_INSIDE = 127
_EDGE_PX = 6  # depth inside the object up to which white can be mixed in
_FOOT_PX = 12  # the same, measured from the end of the white
_SPREAD_PX = 19  # search range for the object's own colour, beyond the edge
_TRUST_IN_MASK = 48.0**2  # squared contrast to white at which colour and mask weigh the same


@dataclass(frozen=True, slots=True)
class Shadow:
    """The shadow's offsets, opacity, and the size of its Gaussian window (rounded up to an odd number)."""

    offset_x_px: int = 3
    offset_y_px: int = 5
    opacity: float = 0.4
    blur_px: int = 21


def add_shadow(extracted: Rgb, mask: Grey | None, shadow: Shadow) -> Rgb:
    """Return the object on #F5F5F5 with its shadow. The arrays are uint8; `extracted` is the object on white.

    Without a mask, every pixel that is not almost white is object. Raises BadInput if there is no object, and TooLarge
    above 2048 px per side, twice the size of an extraction.
    """
    if max(extracted.shape) > _MAX_SIDE_PX:
        raise TooLarge(f"The image is too large for a shadow: at most {_MAX_SIDE_PX} pixels per side.")
    outline = _find_object(extracted) if mask is None else _stretch(mask, extracted)
    if not outline.any():
        raise BadInput("The image has no object: all pixels are almost white or outside the mask.")
    solid = _solidity(extracted, outline, _EDGE_PX)
    shade = _shade(outline, shadow) * shadow.opacity
    # Each pixel is colour * solid + white * (1 - solid). Replace the white by the shaded background, so that soft
    # edges keep no white fringe.
    exchanged = (1 - solid) * (_WHITE - _GROUND * (1 - shade))
    return np.clip(np.rint(extracted - exchanged[..., None]), 0, 255).astype(np.uint8)


def _stretch(mask: Grey, extracted: Rgb) -> Grey:
    """Return the mask as 0 and 255, stretched to the image."""
    height, width = extracted.shape[:2]
    stretched = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.threshold(stretched, _INSIDE, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _find_object(extracted: Rgb) -> Grey:
    """Separate the object from the white around it, as 0 and 255; small enclosed white spots are highlights."""
    white = cv2.inRange(extracted, (_ALMOST_WHITE,) * 3, (255,) * 3)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(white)
    area = stats[:, cv2.CC_STAT_AREA]  # the first is the object's
    ground = area >= _HIGHLIGHT * area[0]
    ground[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    ground[0] = False
    # The white ends at the outer end of the soft edge; the outline is where the object covers half a pixel.
    solid = _solidity(extracted, np.where(ground[labels], 0, 255).astype(np.uint8), _FOOT_PX)
    return np.where(solid > 0.5, 255, 0).astype(np.uint8)  # noqa: PLR2004


def _solidity(extracted: Rgb, outline: Grey, edge_px: int) -> Opacity:
    """Return the object's share of each edge pixel, by least squares between white and the object's nearby colour.

    Where that colour is almost white itself, the outline decides.
    """
    # An extraction is cut where its mask is at one half, so the image border is an edge too.
    depth = cv2.distanceTransform(cv2.copyMakeBorder(outline, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
    depth = depth[1:-1, 1:-1]
    # Thin parts have no core, so use the outline's own colour there.
    weight = np.where(depth > edge_px, 1, outline * np.float32(0.01 / 255)).astype(np.float32)
    window = (2 * edge_px + _SPREAD_PX,) * 2
    ink = np.float32(_WHITE) - extracted.astype(np.float32)
    spread = cv2.blur(cv2.merge([weight * ink[..., channel] for channel in range(3)]), window)
    full_ink = np.asarray(spread / np.maximum(cv2.blur(weight, window), 1e-6)[..., None], np.float32)
    guess = cv2.GaussianBlur(outline, (3, 3), 0).astype(np.float32) / 255
    solid = (_dot(ink, full_ink) + _TRUST_IN_MASK * guess) / (_dot(full_ink, full_ink) + _TRUST_IN_MASK)
    # A light spot looks like mixed-in white; with depth that becomes less likely.
    return np.asarray(np.clip(np.maximum(solid, depth / edge_px), 0, 1), np.float32)


def _dot(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("hwc,hwc->hw", first, second))


def _shade(outline: Grey, shadow: Shadow) -> Opacity:
    """Move the outline, fade it from the bottom (1) to the top (0), and blur it."""
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
