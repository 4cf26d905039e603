"""Confines an edit to its mask, because engines grow masks, soften rims and cast shadows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.imaging.placement import MASK_THRESHOLD

if TYPE_CHECKING:
    from services.a100worker.backend import Edit
    from shared.image_codec import Grey, Rgb

_BAND_ROWS = 128


def confine(edit: Edit, photo: Rgb, mask: Grey) -> Edit:
    """Return the edit with the photo's own pixels outside the mask.

    An edit of the whole image is confined to the mask, too. Writable arrays are changed in place: copies of 64
    megapixels take 256 MB.
    """
    image = _writable(edit.image)
    region = np.full_like(mask, 255) if edit.region is None else _writable(edit.region)
    for top in range(0, len(mask), _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        outside = mask[rows] <= MASK_THRESHOLD
        np.copyto(image[rows], photo[rows], where=outside[..., None])
        region[rows][outside] = 0
    return replace(edit, image=image, region=region)


def _writable(array: Grey | Rgb) -> Grey | Rgb:
    return array if array.flags.writeable else array.copy()
