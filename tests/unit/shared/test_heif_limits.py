"""HEIC and AVIF files that ask for more than a photo does: each is read within the bounds, or refused in a sentence."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from shared.errors import BadImage, TooLarge
from shared.image_codec import decode_photo, probe
from tests.unit.shared.heif_files import TILE_PX, build_grid


def avif(frames: int = 1) -> bytes:
    """Return an AVIF of small frames."""
    file = io.BytesIO()
    pictures = [Image.new("RGB", (16, 16), (number % 256, 40, 90)) for number in range(frames)]
    pictures[0].save(file, "AVIF", save_all=frames > 1, append_images=pictures[1:], speed=10)
    return file.getvalue()


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (16, 12), (30, 30)])
def test_a_grid_of_tiles_is_one_picture(rows: int, columns: int) -> None:
    """As telephones write their photos: 192 tiles for 48 megapixels."""
    data = build_grid(rows, columns)

    info, photo = probe(data), decode_photo(data)

    assert (info.width, info.height) == (columns * TILE_PX, rows * TILE_PX)
    assert photo.rgb.shape == (rows * TILE_PX, columns * TILE_PX, 3)
    assert (photo.rgb[:TILE_PX, :TILE_PX] == photo.rgb[-TILE_PX:, -TILE_PX:]).all()


HOSTILE = {
    "a thousand tiles": (build_grid(32, 32), BadImage),
    "four thousand tiles": (build_grid(64, 64), BadImage),
    "65,535 px": (build_grid(2, 2, size=(65_535, 65_535)), TooLarge),
    "fewer tiles than pixels": (build_grid(2, 2, size=(8192, 8192)), BadImage),
    "a grid of itself": (build_grid(2, 2, loops=True), BadImage),
    "auxiliary pictures of each other": (build_grid(2, 2, loops=True, auxiliaries=500), BadImage),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_more_than_a_photo_is_refused(name: str) -> None:
    """In a sentence, before much memory is taken."""
    data, error = HOSTILE[name]

    with pytest.raises(error):
        decode_photo(data)


def test_many_auxiliary_pictures_cost_nothing() -> None:
    """They are not decoded."""
    assert decode_photo(build_grid(2, 2, auxiliaries=500)).rgb.shape == (128, 128, 3)


def test_of_a_long_sequence_one_frame_is_read() -> None:
    """The note has the number of the others."""
    data = avif(1000)

    assert decode_photo(data).rgb.shape == (16, 16, 3)
    assert probe(data).notes == ("first of 1000 frames",)


def test_a_stated_size_beyond_the_limit_is_refused() -> None:
    """Whatever the coded picture has."""
    data = bytearray(avif())
    struct.pack_into(">II", data, data.index(b"ispe") + 8, 65_535, 65_535)

    with pytest.raises((BadImage, TooLarge)):
        probe(bytes(data))
