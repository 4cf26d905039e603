"""Growing, feathering and tidying masks."""

from __future__ import annotations

import numpy as np
import pytest

from services.segmentation.geometry import Box
from services.segmentation.masks import bbox, binary, feather, fill_holes, grow, iou, keep_parts, resize_nearest


def block(size: int, box: Box) -> np.ndarray:
    """Return a square mask with a filled box."""
    mask = np.zeros((size, size), np.uint8)
    mask[box.y0 : box.y1, box.x0 : box.x1] = 255
    return mask


@pytest.mark.parametrize("by_px", [1, 3, 10, -1, -3, -10])
def test_an_edge_moves_by_true_pixels(by_px: int) -> None:
    """Every side of a block moves outwards, or inwards, by the number asked for."""
    grown = grow(block(100, Box(30, 40, 60, 70)), by_px)

    assert bbox(grown) == Box(30 - by_px, 40 - by_px, 60 + by_px, 70 + by_px)


def test_growing_is_round() -> None:
    """A single pixel becomes a disc, not a square."""
    grown = grow(block(41, Box(20, 20, 21, 21)), 10)

    area = np.count_nonzero(grown > 127)
    assert abs(area - np.pi * 10.5**2) < 0.05 * area


def test_growing_by_nothing_keeps_the_soft_edge() -> None:
    """Zero pixels means that not a value changes."""
    soft = np.arange(0, 250, 10, dtype=np.uint8).reshape(5, 5)

    assert np.array_equal(grow(soft, 0), soft)


def test_shrinking_does_not_peel_a_mask_off_the_border() -> None:
    """An object that runs out of the picture still does afterwards."""
    shrunk = grow(block(50, Box(0, 10, 30, 50)), -5)

    assert bbox(shrunk) == Box(0, 15, 25, 50)


def test_shrinking_too_far_leaves_nothing() -> None:
    """A block that is 10 wide does not survive 6 from each side."""
    assert not grow(block(50, Box(20, 20, 30, 30)), -6).any()


@pytest.mark.parametrize("sigma_px", [3.0, 30.0])
def test_feathering_is_a_gaussian_of_that_width(sigma_px: float) -> None:
    """One sigma outside a straight edge, 16 % of the mask is left; on the edge, half."""
    mask = np.zeros((400, 400), np.uint8)
    mask[:, 200:] = 255

    row = feather(mask, sigma_px)[200].astype(float)

    assert (row[199] + row[200]) / 2 == pytest.approx(127.5, abs=2)
    one_sigma_out = 200 - round(sigma_px)
    assert row[one_sigma_out - 1 : one_sigma_out + 1].mean() == pytest.approx(0.16 * 255, abs=4)


def test_no_feather_changes_nothing() -> None:
    """Zero is off."""
    mask = block(20, Box(5, 5, 9, 9))

    assert feather(mask, 0) is mask


def test_resizing_invents_no_values() -> None:
    """Nearest neighbour keeps a hard mask hard."""
    resize = resize_nearest(block(40, Box(10, 10, 30, 30)), 97, 61)

    assert resize.shape == (61, 97)
    assert set(np.unique(resize)) == {0, 255}


def test_parts_without_a_sure_pixel_go() -> None:
    """Of two parts the one that the user pointed at stays."""
    mine, other = block(50, Box(5, 5, 10, 10)), block(50, Box(20, 20, 45, 45))

    assert np.array_equal(keep_parts(mine | other, block(50, Box(7, 7, 8, 8))), mine)


def test_without_sure_pixels_the_large_parts_stay() -> None:
    """Crumbs of less than a tenth of the largest part go."""
    large, middle, crumb = (
        block(60, Box(0, 0, 20, 20)), block(60, Box(30, 0, 40, 10)), block(60, Box(50, 50, 53, 53)),
    )  # fmt: skip

    assert np.array_equal(keep_parts(large | middle | crumb, np.zeros((60, 60), np.uint8)), large | middle)


def test_small_holes_are_filled_and_large_ones_kept() -> None:
    """A speck inside an object is no hole; the middle of a ring is."""
    solid = block(100, Box(10, 10, 90, 90))
    ring = solid & ~block(100, Box(40, 40, 70, 70))
    speckled = ring & ~block(100, Box(20, 20, 23, 23))

    assert np.array_equal(fill_holes(speckled, np.zeros_like(solid)), ring)


def test_a_hole_that_somebody_asked_for_stays() -> None:
    """A negative click inside an object is kept."""
    holed = block(100, Box(10, 10, 90, 90)) & ~block(100, Box(20, 20, 23, 23))

    assert np.array_equal(fill_holes(holed, block(100, Box(21, 21, 22, 22))), holed)


def test_overlap_is_intersection_over_union() -> None:
    """Two halves that share a third of their union."""
    left, right = block(30, Box(0, 0, 20, 30)), block(30, Box(10, 0, 30, 30))

    assert iou(left, right) == pytest.approx(1 / 3)


def test_two_empty_masks_are_the_same() -> None:
    """Nothing overlaps nothing wholly."""
    nothing = np.zeros((3, 3), np.uint8)

    assert iou(nothing, nothing) == 1.0


def test_binary_is_hard() -> None:
    """True becomes 255."""
    assert binary(np.array([[True, False]])).tolist() == [[255, 0]]
