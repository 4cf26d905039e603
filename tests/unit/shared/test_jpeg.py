"""The metadata of a JPEG is taken out of the way of its pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from shared import jpeg
from tests.browser.odd_files import PICTURE, exif, save, segment

PLAIN = save(PICTURE, "JPEG", quality=95)
HEAD = 2 + 2 + int.from_bytes(PLAIN[4:6], "big")


def tagged(*segments: bytes) -> bytes:
    return PLAIN[:HEAD] + b"".join(segments) + PLAIN[HEAD:]


def profile(*parts: tuple[int, int, bytes]) -> bytes:
    return tagged(*(segment(0xE2, b"ICC_PROFILE\0" + bytes([at, of]) + body) for at, of, body in parts))


def test_metadata_is_kept_beside_the_pixels() -> None:
    """The pixels' file is the one without it, bit for bit."""
    data = tagged(segment(0xE1, b"Exif\0\0" + exif(6)), segment(0xFE, b"a comment"), segment(0xED, b"Photoshop 3.0\0"))

    parts = jpeg.read(data)

    assert parts.pixels == PLAIN
    assert parts.exif == exif(6)


def test_the_first_exif_segment_counts() -> None:
    """Also if it is broken: browsers read no second one."""
    data = tagged(segment(0xE1, b"Exif\0\0broken"), segment(0xE1, b"Exif\0\0" + exif(6)))

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
    """What is missing is filled in two different ways."""
    stem = save(Image.effect_noise((64, 64), 90), "JPEG", quality=95)[:-200]

    first, second = (np.array(Image.open(io.BytesIO(ended))) for ended in jpeg.with_end(stem))

    assert not np.array_equal(first, second)
