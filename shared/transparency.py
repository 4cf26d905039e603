"""Transparent pictures: their own colours for an edit, and their transparency for the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.image_codec import Photo, Rgb, Rgba

_WHITE = 255


def own_colours(photo: Photo) -> Rgb:
    """Return the colours of all visible pixels, as if they were opaque, and white for the others, (h, w, 3)."""
    if photo.rgba is None:
        return photo.rgb
    colours = photo.rgba[..., :3].copy()
    colours[photo.rgba[..., 3] == 0] = _WHITE
    return colours


def put_back(rgba: Rgba | None, colours: Rgb) -> Rgb | Rgba:
    """Put new colours into `rgba`, in place; invisible pixels keep their colours, bit for bit.

    Returns the colours alone if the photo is opaque (None).
    """
    if rgba is None:
        return colours
    for row, new in zip(rgba, colours, strict=True):  # a copy of a whole photo would be the fourth
        visible = row[:, 3] > 0
        row[visible, :3] = new[visible]
    return rgba
