"""Puts an edit that was made on white back into a transparent photo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.imaging.placement import bounding_box
from shared.transparency import put_back

if TYPE_CHECKING:
    from services.a100worker.backend import Edit
    from shared.image_codec import Grey, Rgb, Rgba

_WHITE = 255.0
_BAND_ROWS = 64


def restore(rgba: Rgba | None, edit: Edit) -> Rgb | Rgba:
    """Return an edit's result with the transparency of the photo `rgba`, which is None for an opaque photo.

    Outside the region every pixel is the photo's, bit for bit. Inside, the opacity rises with the region, so that a
    soft rim stays soft, and the colours are chosen so that they look on white as the engine painted them. An edit of
    the whole image keeps the transparency everywhere. `rgba` is not changed.
    """
    if rgba is None:
        return edit.image
    if edit.region is None:
        return put_back(rgba.copy(), edit.image)
    result = rgba.copy()
    box = bounding_box(edit.region)
    if box is None:
        return result
    for top in range(box.y, box.y + box.height, _BAND_ROWS):  # the floats of 64 megapixels take 4 GB
        part = slice(top, min(top + _BAND_ROWS, box.y + box.height)), box.slices[1]
        _put_back_part(result[part], edit.image[part], edit.region[part])
    return result


def _put_back_part(result: Rgba, painted: Rgb, region: Grey) -> None:
    """Put painted pixels into a part of the photo, in place."""
    weight = region.astype(np.float32)[..., None] / _WHITE
    before = result[..., 3:].astype(np.float32)
    opacity = np.rint(before + (_WHITE - before) * weight)
    colours = _WHITE - (_WHITE - painted.astype(np.float32)) * _WHITE / np.maximum(opacity, 1)
    inside = region > 0
    mixed = np.clip(np.rint(np.concatenate([colours, opacity], axis=2)), 0, 255).astype(np.uint8)
    result[inside] = mixed[inside]
