"""Cuts an object out of its image, with soft opacity and without the colours of the old background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from services.a100worker.imaging.enlarging import Enlargement
from services.a100worker.imaging.placement import Box, bounding_box
from shared.foreground import estimate_colours, soften

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

    Floats: TypeAlias = NDArray[np.float32]

_MAX_SIDE_PX = 1024
_MAX_WHOLE_SIDE_PX = 2048
_MARGIN = 0.1  # share of the long side: background that the separation of the colours needs
_MIN_MARGIN_PX = 8
_SOFT_RIM = 0.04  # width, as a share of the long side
_VISIBLE = 0.05
_CUT_SHARE = 0.03  # share of a side: an object that touches less of it is not cut there
_BYTE_MIDDLE = 127
_WHOLE_PX = 4_000_000  # a scaled cutout of this size takes 64 MB


@dataclass(frozen=True, slots=True)
class Cutout:
    """Colours (h, w, 3) and opacity (h, w), both float32 0..1, cropped to the object."""

    colour: Floats
    alpha: Floats

    def resize(self, width: int, height: int) -> ScaledCutout:
        """Scale colours and opacity. The colours of transparent pixels do not bleed into others."""
        return ScaledCutout(self, width, height)


class ScaledCutout:
    """A cutout at the size of its place in a photo. A large one is computed band by band, when it is read."""

    def __init__(self, source: Cutout, width: int, height: int, whole_px: int = _WHOLE_PX) -> None:
        """Scale a cutout to `width` and `height` in pixels, in one piece up to `whole_px`."""
        self.source = source
        self._weighted: Enlargement | None = None
        self._alpha: Enlargement | None = None
        self.sample = source
        """The cutout at its new size or, if that is computed band by band, at its own."""
        weighted = source.colour * source.alpha[..., None]
        if width < source.alpha.shape[1] or width * height <= whole_px:
            how = cv2.INTER_AREA if width < source.alpha.shape[1] else cv2.INTER_CUBIC
            layers = (cv2.resize(layer, (width, height), interpolation=how) for layer in (source.alpha, weighted))
            alpha, weighted = (np.asarray(layer, np.float32) for layer in layers)
            alpha = np.clip(alpha, 0, 1)
            self.sample = Cutout(_divide(weighted, alpha), alpha)
        else:
            self._weighted = Enlargement(weighted, width, height)
            self._alpha = Enlargement(source.alpha, width, height)

    def read(self, start: int, stop: int) -> Cutout:
        """Return the rows from `start` to `stop`."""
        if self._weighted is None or self._alpha is None:
            return Cutout(self.sample.colour[start:stop], self.sample.alpha[start:stop])
        alpha = np.clip(self._alpha.read(start, stop), 0, 1)
        return Cutout(_divide(self._weighted.read(start, stop), alpha), alpha)


def _divide(weighted: Floats, alpha: Floats) -> Floats:
    return np.clip(weighted / np.maximum(alpha, np.float32(1e-4))[..., None], 0, 1).astype(np.float32)


def cut_out(image: Rgb, mask: Grey) -> Cutout:
    """Cut out the marked pixels of a mask (0 and 255, of the image's size, not empty), at most at 1024 px."""
    box = bounding_box(mask) or Box(0, 0, mask.shape[1], mask.shape[0])
    window = box.expand(max(_MIN_MARGIN_PX, round(_MARGIN * max(box.width, box.height))), mask.shape)
    colour, hard = image[window.slices], mask[window.slices]
    scale = min(1.0, _MAX_SIDE_PX / max(hard.shape))
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in hard.shape[::-1])
        colour = np.asarray(cv2.resize(colour, size, interpolation=cv2.INTER_AREA), np.uint8)
        hard = np.asarray(cv2.resize(hard, size, interpolation=cv2.INTER_AREA), np.uint8)
    floats, solid = (array.astype(np.float32) / np.float32(255) for array in (colour, hard))
    alpha = soften(floats, solid) * _fade_at_frame(hard, _find_cut_sides(mask))
    visible = bounding_box((alpha > _VISIBLE).astype(np.uint8)) or Box(0, 0, hard.shape[1], hard.shape[0])
    return Cutout(estimate_colours(floats, alpha)[visible.slices], alpha[visible.slices])


def _find_cut_sides(mask: Grey) -> tuple[bool, bool, bool, bool]:
    """Return for left, top, right and bottom whether the image's frame cuts the object there.

    An object that reaches two opposite sides was fitted into its frame and is not cut there. An object that reaches all
    four sides is the whole image, cut at all of them.
    """
    ends = (mask[:, 0], mask[0], mask[:, -1], mask[-1])
    left, top, right, bottom = (bool((end > 0).mean() >= _CUT_SHARE) for end in ends)
    if left and top and right and bottom:
        return True, True, True, True
    return left and not right, top and not bottom, right and not left, bottom and not top


def _fade_at_frame(hard: Grey, sides: tuple[bool, bool, bool, bool]) -> Floats:
    """Return the opacity, 0..1, of an object that fades out where the frame of its image cuts it."""
    away = np.full_like(hard, 255)
    solid = np.where(hard > _BYTE_MIDDLE, np.uint8(0), np.uint8(255))
    lines = [(each[:, 0], each[0], each[:, -1], each[-1]) for each in (away, solid)]
    for is_cut, line, own in zip(sides, *lines, strict=True):
        if is_cut:
            np.minimum(line, own, out=line)
    if away.all():
        return np.ones(hard.shape, np.float32)
    distance = np.asarray(cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_5), np.float32)
    return _smoothstep(np.minimum((distance + 0.5) / max(1.0, _SOFT_RIM * max(hard.shape)), 1).astype(np.float32))


def cut_whole(image: Rgb) -> Cutout:
    """Return the whole image as a cutout with a fading rim, at most at 2048 px."""
    scale = min(1.0, _MAX_WHOLE_SIDE_PX / max(image.shape))
    if scale < 1:  # the floats of 64 megapixels take a gigabyte
        size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    height, width = image.shape[:2]
    reach = max(1.0, _SOFT_RIM * max(height, width))
    rows, columns = (np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) for side in (height, width))
    alpha = np.minimum(rows[:, None] / reach, 1) * np.minimum(columns[None, :] / reach, 1)
    return Cutout(image.astype(np.float32) / np.float32(255), _smoothstep(alpha.astype(np.float32)))


def _smoothstep(ramp: Floats) -> Floats:
    return ramp * ramp * (3 - 2 * ramp)
