"""The last photos stay decoded, within a number of bytes."""

from __future__ import annotations

import numpy as np
import pytest

from services.a100worker.job.photos import DecodedPhotos
from shared.errors import BadImage
from shared.image_codec import Photo, encode_png

PHOTO = np.full((40, 50, 3), 90, np.uint8)
BYTES = PHOTO.nbytes


def png(level: int, height: int = 40) -> bytes:
    return encode_png(np.full((height, 50, 3), level, np.uint8))


def test_a_photo_is_decoded_once() -> None:
    """The second job gets the same array; its file is not even read."""
    photos = DecodedPhotos(BYTES)

    first = photos.get("a", png(1))

    assert photos.get("a", b"no picture") is first


def test_no_job_can_change_the_photo_of_the_next() -> None:
    """Also not its transparency, nor its 16 bits."""
    rgba = np.full((40, 50, 4), 90, np.uint8)
    photos = DecodedPhotos(10 * BYTES)
    kept = [photos.get("a", encode_png(rgba)), photos.get("b", encode_png(np.full((40, 50, 3), 7, np.uint16)))]

    for pixels in (pixels for photo in kept for pixels in (photo.rgb, photo.rgba, photo.deep) if pixels is not None):
        with pytest.raises(ValueError, match="read-only"):
            pixels[0, 0] = 1


def test_the_least_recently_used_makes_room() -> None:
    """Two fit."""
    photos = DecodedPhotos(2 * BYTES)
    first = photos.get("a", png(1))
    photos.get("b", png(2))
    assert photos.get("a", b"") is first
    photos.get("c", png(3))

    assert photos.get("a", b"") is first
    with pytest.raises(BadImage):
        photos.get("b", b"")


def test_a_photo_that_does_not_fit_drops_the_others() -> None:
    """Its edit needs the memory."""
    photos = DecodedPhotos(BYTES)
    photos.get("a", png(1))

    photos.get("large", png(2, height=41))

    for name in ("a", "large"):
        with pytest.raises(BadImage):
            photos.get(name, b"")


def test_nothing_is_kept_without_bytes() -> None:
    """0 switches it off."""
    photos = DecodedPhotos(0)
    photos.get("a", png(1))

    with pytest.raises(BadImage):
        photos.get("a", b"")


def test_a_result_is_kept_for_the_next_edit() -> None:
    """It cannot be changed either, and one that does not fit drops nothing."""
    photos, result = DecodedPhotos(BYTES), Photo(PHOTO.copy())

    assert photos.keep("a", result)
    assert not photos.keep("large", Photo(np.zeros((41, 50, 3), np.uint8)))
    assert photos.get("a", b"no picture") is result
    assert not result.rgb.flags.writeable
