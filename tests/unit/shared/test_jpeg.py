"""The metadata of a JPEG are separated from its pixels, which are decoded as Pillow decodes them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps

from shared import jpeg
from tests.browser.odd_files import PICTURE, exif, save, segment

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN = save(PICTURE, "JPEG", quality=95)
HEAD = 2 + 2 + int.from_bytes(PLAIN[4:6], "big")


def tag(*segments: bytes) -> bytes:
    return PLAIN[:HEAD] + b"".join(segments) + PLAIN[HEAD:]


def profile(*parts: tuple[int, int, bytes]) -> bytes:
    return tag(*(segment(0xE2, b"ICC_PROFILE\0" + bytes([at, of]) + body) for at, of, body in parts))


def test_metadata_is_kept_beside_the_pixels() -> None:
    """The pixels' file is the one without it, bit for bit."""
    data = tag(segment(0xE1, b"Exif\0\0" + exif(6)), segment(0xFE, b"a comment"), segment(0xED, b"Photoshop 3.0\0"))

    parts = jpeg.read(data)

    assert parts.pixels == PLAIN
    assert parts.exif == exif(6)


def test_the_first_exif_segment_counts() -> None:
    """Also if it is broken: browsers read no second one."""
    data = tag(segment(0xE1, b"Exif\0\0broken"), segment(0xE1, b"Exif\0\0" + exif(6)))

    assert jpeg.read(data).exif == b"broken"


def test_a_profile_in_parts_is_joined_by_their_numbers() -> None:
    """In any order of the segments."""
    assert jpeg.read(profile((2, 2, b"world"), (1, 2, b"hello "))).icc == b"hello world"


@pytest.mark.parametrize("parts", [[(1, 2, b"half")], [(2, 2, b"half")], [(0, 0, b"none")]])
def test_a_profile_that_lacks_a_part_is_none(parts: list[tuple[int, int, bytes]]) -> None:
    """Half a profile is worse than none."""
    assert jpeg.read(profile(*parts)).icc is None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [1, 2])
def test_an_end_marker_can_be_added(lost: int, progressive: bool) -> None:  # noqa: FBT001
    """Both files show the whole picture."""
    data = save(PICTURE, "JPEG", quality=95, progressive=progressive)
    with Image.open(io.BytesIO(data)) as picture:
        whole = np.array(picture)

    for ended in jpeg.with_end(data[:-lost]):
        with Image.open(io.BytesIO(ended)) as picture:
            assert np.array_equal(np.array(picture), whole)


def test_lost_image_data_shows_in_the_difference() -> None:
    """The missing image data are filled in two different ways."""
    stem = save(Image.effect_noise((64, 64), 90), "JPEG", quality=95)[:-200]

    first, second = (np.array(Image.open(io.BytesIO(ended))) for ended in jpeg.with_end(stem))

    assert not np.array_equal(first, second)


# --- pixels -------------------------------------------------------------------------------------------------------

SIZES = [(1, 1), (7, 3), (17, 33), (130, 70)]


def encode(size: tuple[int, int], **options: Any) -> bytes:
    """Return a colour JPEG of noise at that width and height."""
    noise = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return save(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1)), "JPEG", **options)


def unpack(data: bytes, size: tuple[int, int], orientation: int = 1) -> NDArray[np.uint8]:
    pixels = jpeg.unpack(data, size, orientation)
    assert pixels is not None
    return pixels


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        return np.asarray(ImageOps.exif_transpose(picture))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("options", [
    {}, {"progressive": True}, {"quality": 10}, {"restart_marker_blocks": 2}, {"optimize": True},
])  # fmt: skip
def test_the_pixels_are_those_of_pillow(size: tuple[int, int], sampling: str, options: dict[str, Any]) -> None:
    """Of every subsampling and size, bit for bit."""
    data = encode(size, subsampling=sampling, **options)

    assert np.array_equal(unpack(data, size), by_pillow(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_pixels_are_upright(orientation: int) -> None:
    """As the EXIF data state, which the decoder does not get."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    data = encode((20, 12), exif=tags)

    assert np.array_equal(unpack(jpeg.read(data).pixels, (20, 12), orientation), by_pillow(data))


@pytest.mark.parametrize("damaged", [
    encode((20, 12))[:-2], encode((20, 12)) + b"\0", b"\xff\xd8\xff\xd9", encode((20, 12))[:100] + b"\xff\xd9",
])  # fmt: skip
def test_pillow_decodes_or_refuses_what_has_no_clear_end(damaged: bytes) -> None:
    """It finds the missing pixels."""
    assert jpeg.unpack(damaged, (20, 12), 1) is None


@settings(max_examples=100)
@given(st.data())
def test_no_damage_shows_memory_of_the_process(data: st.DataObject) -> None:
    """Whatever lengths the segments between the scans state: the same file gives the same pixels, or none."""
    file = bytearray(encode((64, 48), progressive=True))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(200, len(file) - 3))] = data.draw(st.integers(0, 255))
    cut = bytes(file[: data.draw(st.integers(400, len(file) - 2))]) + b"\xff\xd9"

    results = []
    for filling in (0, 255):
        block = np.full((48, 64, 3), filling, np.uint8)  # the allocator gives its place to the next picture
        del block
        results.append(jpeg.unpack(cut, (64, 48), 1))

    first, second = results
    assert (first is None) == (second is None)
    assert first is None or second is None or np.array_equal(first, second)
