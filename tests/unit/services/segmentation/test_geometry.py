"""Rectangles of a picture, and the small frames in which engines work on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.geometry import Box, Frame, bounding_box, enclosing_box, square_box, whole_image

LIMITS = Box(0, 0, 300, 200)


def test_a_margin_stops_at_the_picture() -> None:
    """Growing a window near a corner stays inside."""
    grown = Box(5, 150, 60, 195).with_margin(20, LIMITS)

    assert grown == Box(0, 130, 80, 200)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (299.5, 199.5), (150, 100), (299, 0)])
def test_a_square_is_moved_into_the_picture_not_cut(x: float, y: float) -> None:
    """Near the border the square keeps its size and still holds its point."""
    window = square_box(x, y, 90, LIMITS)

    assert (window.width, window.height) == (90, 90)
    assert window.contains(x, y)
    assert window.with_margin(0, LIMITS) == window


def test_a_square_wider_than_the_picture_is_cut() -> None:
    """A side longer than the picture is high gives the whole height."""
    window = square_box(150, 100, 250, LIMITS)

    assert (window.width, window.y0, window.y1) == (250, 0, 200)


def test_the_bounding_box_of_nothing_is_none() -> None:
    """An empty mask has no box."""
    assert bounding_box(np.zeros((4, 5), np.uint8)) is None


def test_the_bounding_box_ends_behind_the_last_pixel() -> None:
    """Windows are half open."""
    mask = np.zeros((10, 10), np.uint8)
    mask[2:5, 3:9] = 1

    assert bounding_box(mask) == Box(3, 2, 9, 5)


def test_enclosing_holds_every_point() -> None:
    """The window round points includes the pixels that they lie in."""
    assert enclosing_box([(3.7, 9.2), (1.0, 4.0)]) == Box(1, 4, 4, 10)


def test_a_frame_never_enlarges() -> None:
    """A window smaller than the wanted size is worked on as it is."""
    frame = Frame.fit(Box(10, 10, 60, 40), 512)

    assert (frame.width, frame.height) == (50, 30)


@given(
    left=st.integers(0, 250), top=st.integers(0, 150), width=st.integers(1, 50), height=st.integers(1, 50),
    size=st.integers(1, 64), x=st.floats(0, 1, exclude_max=True), y=st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_a_point_inside_the_window_lies_inside_the_frame(
    left: int, top: int, width: int, height: int, size: int, x: float, y: float
) -> None:
    """Whatever the window and the scale."""
    frame = Frame.fit(Box(left, top, left + width, top + height), size)

    across, down = frame.to_frame(left + x * width, top + y * height)

    assert 0 <= across <= frame.width
    assert 0 <= down <= frame.height


def test_lifting_covers_what_the_frame_showed() -> None:
    """A box in work pixels becomes the picture pixels under it."""
    frame = Frame(Box(100, 50, 300, 150), 20, 10)

    assert frame.to_image(Box(2, 3, 4, 5)) == Box(120, 80, 140, 100)


def test_sampling_its_own_window_gives_the_map_back() -> None:
    """At the same size nothing is interpolated."""
    window = Box(40, 20, 72, 44)
    pixels = np.random.default_rng(1).integers(0, 256, (24, 32), np.uint8)

    assert np.array_equal(Frame(window, 32, 24).sample(pixels, window), pixels)


def test_sampling_is_blank_where_the_map_does_not_reach() -> None:
    """Outside of the mapped window there is nothing."""
    sampled = Frame(LIMITS, 300, 200).sample(np.full((8, 8), 200, np.uint8), Box(100, 50, 200, 100))

    assert bounding_box(sampled) == Box(100, 50, 200, 100)
    assert set(np.unique(sampled)) == {0, 200}


def test_the_whole_picture_is_a_window() -> None:
    """Width comes from the columns, height from the rows."""
    assert whole_image(np.zeros((7, 9, 3), np.uint8)) == Box(0, 0, 9, 7)
