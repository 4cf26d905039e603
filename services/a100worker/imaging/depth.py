"""Puts an edit that was made with 8 bits a channel into a photo that has 16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.colour_tables import apply_curves
from shared.deep_pixels import curves_of

if TYPE_CHECKING:
    from services.a100worker.backend import Edit
    from shared.deep_pixels import Deep
    from shared.image_codec import Rgb, Rgba

_BAND_ROWS = 128
_STEP, _OPAQUE = 257, 65535
_COLOURS = 3


def keep_depth(deep: Deep | None, before: Rgb, edit: Edit, painted: Rgb | Rgba, table: Rgb | None) -> Rgb | Rgba | Deep:
    """Return the edit's result `painted` with the 16 bits of the photo `deep`, which is None for a photo with 8 bits.

    Outside the region every pixel is the photo's, bit for bit. Inside, the 8 bits are widened: the photo's own low bits
    would show traces of a removed object. An edit of the whole image changes the 16 bits by its table (256, 3), or else
    by the difference from `before`, the engine's input.
    """
    if deep is None:
        return painted
    if edit.region is not None:
        return _with_region(deep, painted, edit)
    result, curves = deep.copy(), None if table is None else curves_of(table)
    for top in range(0, len(deep), _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        own = np.ascontiguousarray(deep[rows, :, :_COLOURS])
        if curves is not None:
            new = apply_curves(own, curves)
        else:
            change = (painted[rows, :, :_COLOURS].astype(np.int32) - before[rows]) * _STEP
            new = np.clip(own + change, 0, _OPAQUE).astype(np.uint16)
        if painted.shape[2] > _COLOURS:  # invisible pixels keep their colours
            new = np.where(painted[rows, :, _COLOURS:] > 0, new, own)
        result[rows, :, :_COLOURS] = new
    return result


def _with_region(deep: Deep, painted: Rgb | Rgba, edit: Edit) -> Deep:
    result = deep.copy()
    channels = painted.shape[2]
    for top in range(0, len(deep), _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        inside = np.asarray(edit.region)[rows] > 0
        result[rows, :, channels:][inside] = _OPAQUE
        result[rows, :, :channels][inside] = painted[rows][inside].astype(np.uint16) * np.uint16(_STEP)
    return result
