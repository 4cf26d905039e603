"""Conversion to PNG."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from services.gateway.api.before_after import to_png
from shared.errors import BadImage
from tests.gateway import png, saved


def open_image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_png_stays_as_it_is() -> None:
    """Byte for byte."""
    assert to_png(png()) == png()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_becomes_a_png(mode: str) -> None:
    """In each colour mode."""
    after = open_image(to_png(saved(Image.new(mode, (30, 20)), "JPEG")))

    assert (after.format, after.size) == ("PNG", (30, 20))


def test_it_is_turned_upright() -> None:
    """The EXIF orientation is applied."""
    exif = Image.Exif()
    exif[0x0112] = 6
    after = open_image(to_png(saved(Image.new("RGB", (30, 20)), "JPEG", exif=exif)))

    assert after.size == (20, 30)


def test_a_damaged_picture_is_refused() -> None:
    """The error is a sentence."""
    with pytest.raises(BadImage):
        to_png(saved(Image.effect_noise((90, 90), 50), "JPEG")[:900])
