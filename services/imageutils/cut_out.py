"""Cut an object out of a photo at full size: it stays at its place in the frame, and the rest is transparent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.imageutils.extract import bounds, stretch, visible
from shared.foreground import COLOUR_REACH_PX, estimate_colours, soften
from shared.transparency import own_colours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image_codec import Grey, Photo, Rgb, Rgba

_RADIUS = 0.008  # share of the object's longer side, as in a cutout on a square
_MOST_RADIUS_PX = 32  # soft edges are hardly wider, and a larger radius needs a wider rim around each tile
_TILE_PX = 512
_SOLID = 255


def cut_out_in_place(photo: Photo, mask: Grey) -> Rgba:
    """Return the photo with all but the masked object transparent, as uint8 RGBA of the photo's size.

    The rim is that of `extract.cut_out_object`. Invisible pixels are black, so that the file contains no background.
    Changes `photo.rgba`, which it may return. Raises BadInput if the mask is empty.
    """
    colours = own_colours(photo)
    marked = stretch(mask, colours)
    opacity = None if photo.rgba is None else visible(photo.rgba, mask)
    left, top, right, bottom = bounds(marked, opacity)
    solid = marked if opacity is None else opacity
    radius_px = min(_MOST_RADIUS_PX, max(2, round(_RADIUS * max(right - left, bottom - top))))
    result = np.empty((*solid.shape, 4), np.uint8) if photo.rgba is None else photo.rgba
    for tile in _tiles(solid.shape):
        result[tile] = _cut(colours, solid, tile, radius_px)
    return result


def _cut(colours: Rgb, solid: Grey, tile: tuple[slice, slice], radius_px: int) -> Rgba:
    """Return a tile of the result. It depends on a rim around the tile, and needs work only where an edge is near."""
    rim = 2 * radius_px + COLOUR_REACH_PX
    around = (_widen(tile[0], rim, solid.shape[0]), _widen(tile[1], rim, solid.shape[1]))
    if (flat := _flat(solid[around])) is not None:
        return np.asarray(cv2.merge([*cv2.split(colours[tile] * (flat == _SOLID)), np.full_like(solid[tile], flat)]))
    inner = (_within(tile[0], around[0]), _within(tile[1], around[1]))
    floats = colours[around].astype(np.float32) / np.float32(_SOLID)
    alpha = soften(floats, solid[around].astype(np.float32) / np.float32(_SOLID), radius_px)
    straight = estimate_colours(floats, alpha)[inner]
    levels = np.rint(alpha[inner][..., None] * _SOLID).astype(np.uint8)
    shown = np.where(levels > 0, np.rint(straight * _SOLID).astype(np.uint8), np.uint8(0))
    return np.concatenate([shown, levels], axis=2)


def _flat(solid: Grey) -> int | None:
    """Return 0 or 255 if that is the value of all pixels, else None."""
    least, most = int(solid.min()), int(solid.max())
    return least if least == most and most in {0, _SOLID} else None


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], _TILE_PX):
        for left in range(0, shape[1], _TILE_PX):
            yield slice(top, min(top + _TILE_PX, shape[0])), slice(left, min(left + _TILE_PX, shape[1]))


def _widen(part: slice, by: int, end: int) -> slice:
    return slice(max(0, part.start - by), min(end, part.stop + by))


def _within(part: slice, around: slice) -> slice:
    return slice(part.start - around.start, part.stop - around.start)
