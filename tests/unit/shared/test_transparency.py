"""Transparent pixels of an upload are the same in the result, bit for bit."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from shared.image_codec import decode_photo, encode_png
from shared.transparency import own_colours, put_back

PIXELS = np.array([[[9, 8, 7, 0], [10, 20, 30, 1], [40, 50, 60, 128], [70, 80, 90, 255]]], np.uint8)


def save(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("file_format", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})]
)
def test_colours_and_opacity_are_read_as_they_are(file_format: str, options: dict[str, bool]) -> None:
    """Also the colours of invisible pixels."""
    photo = decode_photo(save(PIXELS, file_format, **options), with_alpha=True)

    assert photo.rgba is not None
    assert photo.rgba.tolist() == PIXELS.tolist()
    assert photo.rgb.tolist() == decode_photo(save(PIXELS, file_format, **options)).rgb.tolist()


def test_they_survive_the_way_back() -> None:
    """A result is read as it was written."""
    again = decode_photo(encode_png(PIXELS), with_alpha=True)

    assert again.rgba is not None
    assert again.rgba.tolist() == PIXELS.tolist()


def test_an_opaque_photo_has_no_transparency() -> None:
    """Browsers send all pictures with four channels."""
    opaque = PIXELS.copy()
    opaque[..., 3] = 255

    photo = decode_photo(encode_png(opaque), with_alpha=True)

    assert photo.rgba is None
    assert own_colours(photo) is photo.rgb


def test_own_colours_are_not_mixed_with_a_ground() -> None:
    """Invisible pixels are white."""
    photo = decode_photo(encode_png(PIXELS), with_alpha=True)

    assert own_colours(photo).tolist() == [[[255, 255, 255], [10, 20, 30], [40, 50, 60], [70, 80, 90]]]


def test_new_colours_get_the_old_opacity() -> None:
    """Invisible pixels keep their colours."""
    new = np.full((1, 4, 3), 200, np.uint8)

    result = put_back(PIXELS, new)

    assert result.tolist() == [[[9, 8, 7, 0], [200, 200, 200, 1], [200, 200, 200, 128], [200, 200, 200, 255]]]
