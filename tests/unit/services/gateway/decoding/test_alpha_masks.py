"""Masks of OpenAI's clients, which mark the region by transparency."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from services.gateway.decoding.alpha_masks import convert_alpha_mask
from services.gateway.decoding.decoders import LARGE_BYTES
from services.gateway.decoding.work import estimate_bytes
from shared.errors import BadImage, BadInput
from shared.image_codec import decode_mask
from shared.image_source import open_source
from tests.gateway import png, saved

OPACITIES = np.array([[0, 1, 128], [254, 255, 0]], np.uint8)
EXPECTED = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)


def with_alpha(mode: str) -> Image.Image:
    """Return a picture of 3 x 2 pixels with the opacities."""
    picture = Image.new("RGBA", (3, 2), "white")
    picture.putalpha(Image.fromarray(OPACITIES))
    return picture.convert(mode)


def palette() -> Image.Image:
    picture = Image.fromarray(np.array([[0, 1, 1], [1, 1, 0]], np.uint8)).convert("P")
    picture.info["transparency"] = 0
    return picture


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_only_what_is_fully_transparent_is_marked(file_format: str) -> None:
    """Alpha 0, as OpenAI's API says; all other pixels are protected."""
    options = {"lossless": True} if file_format == "WEBP" else {}

    assert (
        decode_mask(convert_alpha_mask(saved(with_alpha("RGBA"), file_format, **options))).tolist() == EXPECTED.tolist()
    )


@pytest.mark.parametrize("picture", [with_alpha("LA"), palette()], ids=["LA", "P"])
def test_every_kind_of_transparency_counts(picture: Image.Image) -> None:
    """Grey with alpha, and a transparent colour of a palette."""
    assert decode_mask(convert_alpha_mask(saved(picture))).tolist() == EXPECTED.tolist()


def test_a_turned_mask_is_upright() -> None:
    """Like the photo that it belongs to."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = convert_alpha_mask(saved(with_alpha("RGBA"), exif=exif))

    assert decode_mask(turned).tolist() == np.rot90(EXPECTED, -1).tolist()


@pytest.mark.parametrize("data", [png(), saved(Image.new("L", (4, 4))), saved(Image.new("RGB", (4, 4)), "JPEG")])
def test_a_mask_without_alpha_is_refused(data: bytes) -> None:
    """It would mark nothing, or everything."""
    with pytest.raises(BadInput, match="no transparency"):
        convert_alpha_mask(data)


def test_a_damaged_mask_is_refused() -> None:
    """As a bad image."""
    with pytest.raises(BadImage):
        convert_alpha_mask(saved(with_alpha("RGBA"))[:-30])


def test_the_largest_mask_fits_into_a_child() -> None:
    """64 megapixels in four channels, converted in bands to a small file that any reader opens."""
    data = saved(Image.new("RGBA", (8192, 8192)), compress_level=1)
    marked = convert_alpha_mask(data)

    with open_source(data) as source:
        assert estimate_bytes("alpha", source, data) <= LARGE_BYTES
    assert len(marked) < 1_000_000
    with Image.open(io.BytesIO(marked)) as opened:
        assert (opened.size, opened.getextrema()) == ((8192, 8192), (255, 255))
