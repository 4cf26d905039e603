"""The square input of the network, and the use of its output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.a100worker.backends.lama.square import fill_in_square
from services.a100worker.imaging import holes
from tests.unit.services.a100worker.recorder import box_mask, noise

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb

GREY = 128


class Painter:
    """Stands for the network: paints the mask grey, and keeps its inputs."""

    def __init__(self) -> None:
        self.calls: list[tuple[Rgb, Grey]] = []

    def __call__(self, image: Rgb, mask: Grey) -> Rgb:
        """Return the image with grey where the mask is."""
        self.calls.append((image, mask))
        return np.where(mask[..., None] > 0, np.uint8(GREY), image)


def fill(image: Rgb, mask: Grey) -> tuple[Rgb, Painter]:
    """Fill the largest part of a mask."""
    painter, result = Painter(), image.copy()
    fill_in_square(result, holes.split(mask, None)[0][0], mask, painter, 1)
    return result, painter


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (900, 1200, (300, 300, 600, 500)),
        (900, 1200, (0, 0, 100, 100)),
        (900, 1200, (1100, 800, 1200, 900)),
        (120, 700, (300, 20, 380, 90)),
        (40, 30, (5, 5, 20, 30)),
        (1, 300, (100, 0, 140, 1)),
        (1400, 1500, (100, 100, 1300, 900)),
    ],
)
def test_the_hole_is_filled_and_nothing_else(height: int, width: int, box: tuple[int, int, int, int]) -> None:
    """For any image and hole; the network always gets 512 x 512."""
    image, mask = np.full((height, width, 3), 200, np.uint8), box_mask(height, width, box)

    result, painter = fill(image, mask)

    assert [(part.shape, known.shape) for part, known in painter.calls] == [((512, 512, 3), (512, 512))]
    assert np.array_equal(result[mask == 0], image[mask == 0])
    assert np.median(np.abs(result[mask > 0].astype(int) - GREY)) <= 4  # enlarging rings at the rim


def test_a_hole_that_fits_is_painted_pixel_by_pixel() -> None:
    """The window is a cut of the image, with the hole in its middle."""
    image, mask = noise(900, 1200), box_mask(900, 1200, (400, 300, 700, 500))

    _, painter = fill(image, mask)

    square, known = painter.calls[0]
    assert np.array_equal(square, image[144:656, 294:806])
    assert np.array_equal(known, mask[144:656, 294:806])


def test_a_larger_hole_is_scaled_with_its_surroundings() -> None:
    """All of it is in the square, and context on each side."""
    mask = box_mask(1400, 1500, (200, 300, 1000, 800))

    _, painter = fill(noise(1400, 1500), mask)

    known = painter.calls[0][1]
    rows, columns = np.nonzero(known)
    assert (columns.min() > 60, columns.max() < 451, rows.min() > 60, rows.max() < 451) == (True,) * 4


def test_other_holes_do_not_count() -> None:
    """They hold objects that are removed too; the network must not continue them."""
    mask = box_mask(900, 1200, (400, 300, 500, 400), (560, 300, 620, 360))

    result, painter = fill(noise(900, 1200), mask)

    assert np.count_nonzero(painter.calls[0][1]) == 100 * 100 + 60 * 60
    assert np.array_equal(result[300:360, 560:620], noise(900, 1200)[300:360, 560:620])
