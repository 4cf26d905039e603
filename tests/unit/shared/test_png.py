"""PNG: the fast path gives the same pixels as Pillow, and leaves other files to it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared import png

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MODES = {"L": 1, "RGB": 3, "RGBA": 4}


def noise(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Pixels in which every wrong one shows."""
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), np.uint8)


def smooth(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Pixels that make an encoder choose among all filters."""
    rows, columns = np.ogrid[:height, :width]
    return np.dstack([(rows * (2 + k) + columns * columns // (3 + k)) % 256 for k in range(channels)]).astype(np.uint8)


def save(pixels: NDArray[np.uint8], mode: str, **options: object) -> bytes:
    """Return the file that Pillow writes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if mode == "L" else pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def read(data: bytes, mode: str, height: int, width: int) -> NDArray[np.uint8]:
    """Unpack, and insist that the quick way was taken."""
    pixels = png.unpack(data, mode, (width, height))
    assert pixels is not None
    return pixels


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [noise, smooth])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 1), (1, 9), (65, 33)])
def test_what_pillow_wrote_is_read(
    make: Callable[[int, int, int], NDArray[np.uint8]], mode: str, height: int, width: int
) -> None:
    """Every pixel, of every common kind."""
    pixels = make(height, width, MODES[mode])

    assert np.array_equal(read(save(pixels, mode), mode, height, width), pixels)


def test_another_depth_is_left_to_others() -> None:
    """Sixteen bits a channel, or one, are not eight."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3)).save(buffer, "PNG")

    assert png.unpack(buffer.getvalue(), "L", (3, 2)) is None


@pytest.mark.parametrize("mode", ["P", "LA", "1", "I;16", "CMYK"])
def test_another_mode_is_left_to_others(mode: str) -> None:
    """Palettes and the like are rare, and Pillow knows them all."""
    assert png.unpack(save(noise(4, 4, 3), "RGB"), mode, (4, 4)) is None


def test_a_wrong_size_is_left_to_others() -> None:
    """Nothing is read into a place of another size."""
    assert png.unpack(save(noise(4, 4, 3), "RGB"), "RGB", (5, 4)) is None


@given(kept=st.floats(0, 0.95))
def test_a_file_that_was_cut_short_is_left_to_others(kept: float) -> None:
    """Pillow refuses it, with a sentence about the cause."""
    data = save(noise(9, 11, 3), "RGB")

    assert png.unpack(data[: int(len(data) * kept)], "RGB", (11, 9)) is None


def test_a_long_file_is_left_to_others() -> None:
    """The interpreter would stand still while it is read."""
    pixels = noise(1200, 1200, 3)

    data = save(pixels, "RGB", compress_level=0)

    assert len(data) > 4 * 1024**2
    assert png.unpack(data, "RGB", (1200, 1200)) is None


# --- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("height", [1, 2, 63, 64, 65, 128, 200])
def test_what_is_written_is_read_by_pillow(height: int, channels: int) -> None:
    """Whether or not the last strip is full."""
    pixels = smooth(height, 50, channels)

    with Image.open(io.BytesIO(png.pack(pixels.squeeze(2) if channels == 1 else pixels))) as picture:
        assert np.array_equal(np.array(picture).reshape(pixels.shape), pixels)


def pixel_chunks(data: bytes) -> list[bytes]:
    """Return the bodies of the chunks IDAT."""
    bodies, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"IDAT":
            bodies.append(data[at + 8 : at + 8 + length])
        at += 12 + length
    return bodies


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bands", [1.0, 1.001, 2.0, 2.4])
def test_a_large_picture_is_written_in_bands(bands: float, channels: int) -> None:
    """Other readers find the same pixels and a right checksum; a band costs a few bytes."""
    width = 1500
    height = round(bands * (6_000_000 // (width * channels)) + 0.49)
    pixels = smooth(height, width, channels)
    data = png.pack(pixels.squeeze(2) if channels == 1 else pixels)

    with Image.open(io.BytesIO(data)) as picture:
        assert np.array_equal(np.array(picture).reshape(pixels.shape), pixels)
    if len(data) < 4_000_000:
        assert np.array_equal(read(data, {1: "L", 3: "RGB", 4: "RGBA"}[channels], height, width), pixels)
    bodies = pixel_chunks(data)
    assert len(zlib.decompress(b"".join(bodies))) == height * (width * channels + 1)
    assert len(bodies) == (1 if bands == 1 else int(bands + 1.999))


def test_one_core_writes_the_same_bytes_as_several() -> None:
    """A result's name is the hash of its bytes, on every worker."""
    pixels = smooth(2100, 1500, 3)
    cores = os.sched_getaffinity(0)

    several = png.pack(pixels)
    os.sched_setaffinity(0, {min(cores)})
    try:
        one = png.pack(pixels)
    finally:
        os.sched_setaffinity(0, cores)

    assert one == several


def test_a_part_of_a_picture_is_written() -> None:
    """Also where its rows do not lie one behind the other."""
    pixels = noise(90, 80, 3)

    with Image.open(io.BytesIO(png.pack(pixels[10:80, 5:70]))) as picture:
        assert np.array_equal(np.array(picture), pixels[10:80, 5:70])


def test_a_colour_profile_travels_in_the_file() -> None:
    """Before the pixels, as the specification wants it."""
    data = png.pack(noise(3, 4, 3), (b"iCCP", b"icc\0\0" + zlib.compress(b"a profile")))

    assert data.index(b"IHDR") < data.index(b"iCCP") < data.index(b"IDAT")
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.info["icc_profile"] == b"a profile"


def test_rows_are_filtered_by_the_row_above() -> None:
    """With the filter Up (PNG specification, 9.2), which costs little and makes photos small."""
    data = png.pack(noise(3, 4, 3))

    at = data.index(b"IDAT")
    assert zlib.decompress(data[at + 4 : -16])[0] == 2
