"""Lines are carried through a hole, and a hole in text is filled with the plain background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.a100worker.imaging.filling import fill_smoothly
from services.a100worker.imaging.structure.lettering import find_lettering
from services.a100worker.imaging.structure.lines import find_lines
from services.a100worker.imaging.structure.search import fill_with_structure
from tests.unit.services.a100worker.recorder import noise

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb

pytestmark = pytest.mark.timeout(60)
SIDE_PX = 240
MIDDLE = SIDE_PX // 2
SKY, SEA = (90, 140, 220), (30, 60, 70)


def hole_of(radius_px: int = 40, shape: tuple[int, int] = (SIDE_PX, SIDE_PX)) -> Grey:
    """Return a round hole in the middle."""
    hole = np.zeros(shape, np.uint8)
    cv2.circle(hole, (shape[1] // 2, shape[0] // 2), radius_px, 255, -1)
    return hole


def nothing(hole: Grey) -> Grey:
    """Avoid no pixels."""
    return np.zeros_like(hole)


def seaside(slope: float, from_px: int = 0) -> Rgb:
    """Return a horizon through the middle, with a little noise; left of `from_px` all is sky."""
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    is_sea = (rows - MIDDLE > slope * (columns - MIDDLE)) & (columns >= from_px)
    grain = np.random.default_rng(0).normal(0, 2, (SIDE_PX, SIDE_PX, 1))
    return np.asarray((np.where(is_sea[..., None], SEA, SKY) + grain).clip(0, 255), np.uint8)


def chessboard() -> Rgb:
    """Return squares of 24 pixels, in no way in line with the hole."""
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    return np.repeat((((rows // 24 + columns // 24) % 2) * 200 + 20)[..., None], 3, axis=2).astype(np.uint8)


def page(ink: int, paper: int) -> Rgb:
    """Return lines of printed words."""
    image = np.full((SIDE_PX, SIDE_PX, 3), paper, np.uint8)
    for row in range(20, SIDE_PX, 22):
        cv2.putText(image, "removal of words in text", (4, row), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (ink, ink, ink), 1)
    return image


@pytest.mark.parametrize("slope", [0.0, 0.3, -0.6])
def test_a_horizon_goes_through_the_hole(slope: float) -> None:
    """The colours beside the line are right even where the rest of the hole stays black."""
    image, hole = seaside(slope), hole_of()
    torn = np.where(hole[..., None] > 0, np.uint8(0), image)

    filled = fill_with_structure(torn, hole, nothing(hole), lambda image, _hole, _avoid: image)

    for column in range(MIDDLE - 30, MIDDLE + 31, 5):
        row = MIDDLE + slope * (column - MIDDLE)
        assert np.abs(filled[round(row - 3), column] - np.array(SKY)).max() < 12
        assert np.abs(filled[round(row + 3), column] - np.array(SEA)).max() < 12


def test_an_edge_that_ends_at_the_hole_is_not_carried() -> None:
    """Only its right side is visible, so its end is unknown."""
    image, hole = seaside(0.0, from_px=MIDDLE), hole_of()

    lines = find_lines(image, hole, nothing(hole))

    assert lines == []


def test_a_chessboard_is_no_line() -> None:
    """Its edges run through the hole, but with their colours exchanged at each square."""
    image, hole = chessboard(), hole_of()

    lines = find_lines(image, hole, nothing(hole))

    assert lines == []


def test_avoided_pixels_show_no_line() -> None:
    """A horizon on an object that must not be copied belongs to that object."""
    image, hole = seaside(0.0), hole_of()

    lines = find_lines(image, hole, 255 - hole)

    assert lines == []


def test_stripes_have_few_lines() -> None:
    """A drawing of a thousand stripes must not be compared pair by pair."""
    image = np.zeros((600, 600, 3), np.uint8)
    image[:, np.arange(600) // 4 % 2 == 0] = 255
    hole = hole_of(150, (600, 600))

    lines = find_lines(image, hole, nothing(hole))

    assert len(lines) <= 12


@pytest.mark.parametrize(("ink", "paper"), [(20, 230), (235, 30)])
def test_text_gets_its_plain_ground(ink: int, paper: int) -> None:
    """No letter is invented: the search is not asked, and the whole hole is paper."""
    image, hole = page(ink, paper), hole_of()

    filled = fill_with_structure(image, hole, nothing(hole), fail)

    assert np.abs(filled[hole > 0].astype(int) - paper).max() < 40
    assert np.array_equal(filled[hole == 0], image[hole == 0])


@pytest.mark.parametrize("image", [seaside(0.3), chessboard(), noise(SIDE_PX, SIDE_PX)])
def test_other_images_have_no_letters(image: Rgb) -> None:
    """A false alarm would blur a texture."""
    hole = hole_of()

    letters = find_lettering(image, hole, nothing(hole))

    assert letters is None


@pytest.mark.parametrize(("height", "width"), [(1, 2), (2, 1), (3, 3), (7, 40), (40, 7)])
def test_tiny_images_are_filled(height: int, width: int) -> None:
    """They have no place for a line."""
    image, hole = noise(height, width), np.zeros((height, width), np.uint8)
    hole[height // 2 :, width // 2 :] = 255

    filled = fill_with_structure(image, hole, nothing(hole), fill_smoothly)

    assert np.array_equal(filled, fill_smoothly(image, hole, nothing(hole)))


def fail(_image: Rgb, _hole: Grey, _avoid: Grey) -> Rgb:
    """Fail, because letters would be copied."""
    raise AssertionError
