"""The comparison of pictures and their previews."""

from __future__ import annotations

import io

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from PIL import Image

from services.mcp import pictures
from tests.gateway import saved


def draw_spot(box: tuple[int, int, int, int], colour: tuple[int, ...], mode: str = "RGB") -> bytes:
    """Return a black picture of 2000 x 1200 pixels with a box of another colour."""
    picture = Image.new(mode, (2000, 1200), (0, 0, 0, 255)[: len(mode)])
    picture.paste(colour, box)
    return saved(picture)


def test_a_difference_of_one_step_in_one_channel_counts() -> None:
    """Over several bands of rows."""
    found = pictures.compare(draw_spot((0, 0, 0, 0), (0, 0, 0)), draw_spot((30, 100, 40, 1100), (0, 0, 1)))

    assert found == pictures.Difference(10_000, 10_000 / 2_400_000, (30, 100, 40, 1100))


def test_transparency_counts() -> None:
    """Also against a picture without any."""
    found = pictures.compare(draw_spot((0, 0, 0, 0), (0, 0, 0)), draw_spot((0, 0, 5, 4), (0, 0, 0, 254), "RGBA"))

    assert (found.changed_pixels, found.box) == (20, (0, 0, 5, 4))


def test_equal_pictures_have_no_box() -> None:
    """In other files."""
    same = Image.new("RGB", (9, 9), "red")

    assert pictures.compare(saved(same), saved(same, "WEBP", lossless=True)) == pictures.Difference(0, 0.0, None)


@pytest.mark.parametrize("other", [saved(Image.new("RGB", (9, 8))), b"no picture"])
def test_what_cannot_be_compared_is_refused(other: bytes) -> None:
    """With a sentence."""
    with pytest.raises(ToolError, match=r"different sizes|cannot be opened"):
        pictures.compare(saved(Image.new("RGB", (9, 9))), other)


def test_a_preview_is_small_and_on_white() -> None:
    """As models and people look at it."""
    preview = Image.open(io.BytesIO(pictures.preview_of(saved(Image.new("RGBA", (3000, 1500))))))

    assert (preview.format, preview.size) == ("JPEG", (512, 256))
    assert preview.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("reference", ["", "photo.jpg", "artmancer://images/x", "A" * 64, "http://x/" + "0" * 64])
def test_only_addresses_of_pictures_name_one(reference: str) -> None:
    """A path never does."""
    with pytest.raises(ToolError, match="artmancer://"):
        pictures.name_of(reference)
