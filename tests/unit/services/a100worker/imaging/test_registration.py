"""The test whether a repainted photo is aligned, and the transfer of colours from one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.a100worker.imaging.registration import is_aligned, with_colours_of
from tests.unit.services.a100worker.recorder import noise, photo

if TYPE_CHECKING:
    from shared.image_codec import Rgb

NAMES = ("cat", "coffee", "rocket", "astronaut")


def warm(picture: Rgb) -> Rgb:
    """Return the picture in other colours."""
    return np.asarray(np.clip(picture * np.array([1.25, 1, 0.8]) + 5, 0, 255), np.uint8)


def move(picture: Rgb, across: float, down: float = 0, zoom: float = 1.0, turn: float = 0) -> Rgb:
    """Return the picture, moved, enlarged about its centre or turned."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, zoom)
    matrix[:, 2] += np.array([across, down])
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


@pytest.mark.parametrize("name", NAMES)
def test_other_colours_are_no_movement(name: str) -> None:
    """Nor are less light, a blur, or the artefacts of a JPEG."""
    picture = photo(name)
    dark = (picture * 0.5).astype(np.uint8)
    _, file = cv2.imencode(".jpg", warm(picture), [cv2.IMWRITE_JPEG_QUALITY, 60])
    jpeg = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)

    for after in (picture, warm(picture), dark, cv2.GaussianBlur(picture, (0, 0), 1.0), jpeg, move(picture, 0.5)):
        assert is_aligned(picture, np.asarray(after))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "movement", [{"across": 2}, {"across": 0, "down": -3}, {"across": 0, "zoom": 1.03}, {"across": 0, "turn": 1.5}]
)
def test_a_shift_a_zoom_and_a_turn_are_movements(name: str, movement: dict[str, float]) -> None:
    """Also in other colours."""
    assert not is_aligned(photo(name), move(warm(photo(name)), **movement))


def test_another_picture_is_not_aligned() -> None:
    """Nor is a strip with too little to compare: of these only the colours are used."""
    picture = photo("cat")

    assert not is_aligned(picture, noise(*picture.shape[:2]))
    assert not is_aligned(picture, np.ascontiguousarray(picture[:, ::-1]))
    assert not is_aligned(picture[:, :1], picture[:, :1])


@pytest.mark.parametrize("name", NAMES)
def test_only_the_colours_of_an_answer_that_moved_are_used(name: str) -> None:
    """The shapes stay those of the photo, and the colours are nearly those of the answer."""
    picture = photo(name)

    recoloured = with_colours_of(picture, picture, move(warm(picture), 9, 5))

    assert is_aligned(picture, recoloured)
    assert np.abs(recoloured.astype(int) - warm(picture)).mean() < 4


def test_an_answer_without_contrast_changes_no_more_than_a_limit() -> None:
    """A grey answer must not end in a grey photo."""
    picture = photo("cat")

    recoloured = with_colours_of(picture, picture, np.full_like(picture, 128))

    assert recoloured.std() > 0.4 * picture.std()
