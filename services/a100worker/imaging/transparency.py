"""Puts an edit that was made on white back into a transparent photo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.imaging.placement import bounding_box
from shared.transparency import put_back

if TYPE_CHECKING:
    from services.a100worker.backend import Edit
    from shared.image_codec import Rgb, Rgba

_WHITE = 255.0


def restore(rgba: Rgba | None, edit: Edit) -> Rgb | Rgba:
    """Return the result of an edit with the transparency of the photo `rgba`; None: the photo is opaque.

    Outside the region every pixel is the photo's, bit for bit. Inside, the opacity rises with the region, so that a
    soft rim stays soft, and the colours are those that look on white as the engine painted them. An edit of the whole
    image keeps the transparency everywhere, and is put into `rgba` itself.
    """
    if rgba is None:
        return edit.image
    if edit.region is None:
        return put_back(rgba, edit.image)
    result = rgba.copy()
    box = bounding_box(edit.region)
    if box is None:
        return result
    weight = edit.region[box.slices].astype(np.float32)[..., None] / _WHITE
    before = rgba[box.slices][..., 3:].astype(np.float32)
    opacity = np.rint(before + (_WHITE - before) * weight)
    painted = edit.image[box.slices].astype(np.float32)
    colours = _WHITE - (_WHITE - painted) * _WHITE / np.maximum(opacity, 1)
    inside = weight[..., 0] > 0
    mixed = np.clip(np.rint(np.concatenate([colours, opacity], axis=2)), 0, 255).astype(np.uint8)
    result[box.slices][inside] = mixed[inside]
    return result
