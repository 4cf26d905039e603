"""Placing an inserted object."""

from __future__ import annotations

import numpy as np
import pytest

from services.a100worker.imaging.placement import Box, bounding_box, find_regions, fit
from shared.errors import BadInput
from tests.unit.services.a100worker.recorder import box_mask


def test_each_marked_region_is_boxed() -> None:
    """Two boxes in the mask are two places."""
    found = find_regions(box_mask(100, 200, (10, 20, 40, 60), (100, 30, 150, 45)))

    assert set(found) == {Box(10, 20, 30, 40), Box(100, 30, 50, 15)}


def test_regions_that_touch_at_a_corner_are_two() -> None:
    """Neighbours are above, below, left and right."""
    found = find_regions(box_mask(60, 60, (0, 0, 20, 20), (20, 20, 40, 40)))

    assert len(found) == 2


def test_specks_are_no_regions() -> None:
    """A slip of the brush is not a second copy of the object."""
    found = find_regions(box_mask(60, 60, (0, 0, 20, 20), (50, 50, 55, 55)))

    assert found == [Box(0, 0, 20, 20)]


@pytest.mark.parametrize("mask", [np.zeros((50, 50), np.uint8), box_mask(50, 50, (0, 0, 9, 11))])
def test_a_mask_without_regions_is_bad_input(mask: np.ndarray) -> None:
    """Empty, or nothing but specks."""
    with pytest.raises(BadInput, match="no region"):
        find_regions(mask)


def test_an_object_stands_on_the_floor_of_its_box() -> None:
    """A wide object in a high box: full width, at the bottom."""
    assert fit(200, 100, Box(10, 20, 100, 300)) == Box(10, 270, 100, 50)


def test_an_object_is_centred_from_left_to_right() -> None:
    """A high object in a wide box: full height, in the middle."""
    assert fit(50, 100, Box(10, 20, 300, 100)) == Box(135, 20, 50, 100)


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 7), (977, 1023)])
def test_an_object_never_leaves_its_box(size: tuple[int, int]) -> None:
    """Rounding and extreme proportions included."""
    target = Box(5, 6, 31, 17)

    box = fit(*size, target)

    assert box.width >= 1
    assert box.height >= 1
    assert target.x <= box.x
    assert box.x + box.width <= target.x + target.width
    assert box.y + box.height == target.y + target.height
    assert box.height <= target.height


def test_an_expanded_box_stays_inside_the_picture() -> None:
    """The margin is cut at the borders."""
    assert Box(5, 90, 10, 10).expand(20, (100, 200)) == Box(0, 70, 35, 30)


def test_the_box_of_nothing_is_none() -> None:
    """An empty mask has no box."""
    assert bounding_box(np.zeros((5, 5), np.uint8)) is None
