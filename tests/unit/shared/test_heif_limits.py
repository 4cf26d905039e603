"""HEIC and AVIF files that need more than a photo: each is read within the bounds, or refused with an error text."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared.errors import BadImage, TooLarge
from shared.image_codec import decode_photo, probe
from tests.unit.shared.heif_files import HEVC, TILE_PX, Coded, av1, build_grid


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


SAMPLES = Path(__file__).parent / "heic"
GRIDS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "as it is": ({}, True, True),
    "one pixel more than the tiles": ({"size": (129, 128)}, False, False),
    "many pixels more": ({"size": (8000, 8000)}, False, False),
    "two pixels less": ({"size": (126, 126)}, True, True),
    "one pixel less": ({"size": (127, 127)}, True, False),  # an AVIF decoder demands an even size for halved colours
    "less than one tile": ({"size": (40, 40)}, True, False),  # an AVIF decoder demands a part of each tile
    "the grid smaller than its item": ({"size": (1200, 1200), "canvas": (128, 128)}, False, False),
    "the grid larger than its item": ({"size": (120, 120), "canvas": (128, 128)}, False, True),
    "tiles that state too much": ({"size": (140, 140), "tile": (70, 70)}, False, True),  # an AVIF decoder scales them
    "tiles that state too little": ({"size": (120, 120), "tile": (60, 60)}, False, False),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("coded", [HEVC, av1()], ids=["HEIC", "AVIF"])
def test_the_size_of_a_grid_is_that_of_its_tiles(coded: Coded, name: str) -> None:
    """The answer to an upload and the decoder agree: the same size, or a refusal by both."""
    stated, *readable = GRIDS[name]
    data = build_grid(2, 2, coded=coded, **stated)
    expected = stated.get("size", (128, 128)) if readable[coded != HEVC] else None

    assert [found_size(data), decoded_size(data)] == [expected] * 2


@pytest.mark.parametrize("name", ["plain", "turned", "ten-bits", "transparent", "three-pictures"])
@pytest.mark.parametrize("change", [(1, 0), (0, 64), (-8, 0), (100, 100)])
def test_a_picture_is_as_large_as_its_decoder_says(name: str, change: tuple[int, int]) -> None:
    """Each stated size of the file in turn, also that of the transparency."""
    data = (SAMPLES / f"{name}.heic").read_bytes()
    places = [found.end() + 4 for found in re.finditer(b"ispe", data)]
    answers = []
    for at in places:
        width, height = struct.unpack_from(">II", data, at)
        changed = bytearray(data)
        struct.pack_into(">II", changed, at, width + change[0], height + change[1])
        answers.append((found_size(bytes(changed)), decoded_size(bytes(changed))))

    assert answers == [(None, None)] * len(places)


@pytest.mark.parametrize("place", [2, 6])
@pytest.mark.parametrize("value", [1056, -254, -1, 0, 50_331_650])
def test_a_crop_outside_of_the_picture_is_refused(place: int, value: int) -> None:
    """Its height, or its distance from the middle: the decoder would show another part than the answer states."""
    data = bytearray((SAMPLES / "plain.heic").read_bytes())
    at = data.index(b"clap") + 4 + 4 * place
    if struct.unpack_from(">i", data, at) == (value,):
        pytest.fail("The file is not changed.")
    struct.pack_into(">i", data, at, value)
    answers = found_size(bytes(data)), decoded_size(bytes(data))

    assert answers[0] == answers[1]


def found_size(data: bytes) -> tuple[int, int] | None:
    """Return the size in the answer to an upload; None for a refusal."""
    try:
        info = probe(data)
    except (BadImage, TooLarge):
        return None
    return info.width, info.height


def decoded_size(data: bytes) -> tuple[int, int] | None:
    try:
        height, width = decode_photo(data).rgb.shape[:2]
    except (BadImage, TooLarge):
        return None
    return width, height


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
