"""Decodes the picture of a rendition for Pillow's encoders, with little additional memory."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image

from shared.colour import Colour, fit
from shared.image_codec import decode_photo
from shared.image_source import Source, open_source

_PLAIN = frozenset({"RGB", "RGBA"})
_OPAQUE = (255, 255)


class Loaded(NamedTuple):
    """An upright picture as RGB, or as RGBA if some of it is transparent; its colour space, and its losses as notes."""

    image: Image.Image
    colour: Colour
    notes: tuple[str, ...] = ()


def load_picture(pictures: list[bytes]) -> Loaded:
    """Decode the list's only picture, and remove it from the list to free its memory. Raises BadImage, TooLarge."""
    data = pictures.pop()
    image = _load_plain(data)
    if image is None:
        photo = decode_photo(data, with_alpha=True)
        return Loaded(Image.fromarray(photo.rgb if photo.rgba is None else photo.rgba), photo.colour, photo.notes)
    picture, colour = image
    is_opaque = picture.mode == "RGBA" and picture.getchannel("A").getextrema() == _OPAQUE
    return Loaded(picture.convert("RGB") if is_opaque else picture, colour)


def _load_plain(data: bytes) -> tuple[Image.Image, Colour] | None:
    """Decode an upright PNG, as a worker stores it, with 8 bytes a pixel; None for any other file."""
    with open_source(data) as source:
        if not _is_plain(source):
            return None
        source.image.load()
        source.pixels = b""
        return source.image.copy(), fit(source.image.mode, source.colour)


def _is_plain(source: Source) -> bool:
    is_upright = source.format == "PNG" and source.orientation == 1 and source.frame is None and source.ended
    return is_upright and source.image.mode in _PLAIN and "transparency" not in source.image.info
