"""The user's drawing, as points and as labels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.segmentation.backend import Click
from services.segmentation.backends.grabcut.hints import Clicks, Painting, Strokes
from services.segmentation.geometry import Box, Frame
from shared.messages import Stroke

LIMITS = Box(0, 0, 200, 100)
FRAME = Frame.fit(LIMITS, 200)


def written(hints: Clicks | Strokes | Painting) -> np.ndarray:
    """Return the labels that the hints write into a frame without an object."""
    labels = np.full((100, 200), cv2.GC_BGD, np.uint8)
    hints.write(labels, FRAME)
    return labels


def test_a_click_is_a_small_hard_disc() -> None:
    """One percent of the long side."""
    labels = written(Clicks((Click(50, 50, positive=True),)))

    assert labels[50, 50] == labels[50, 52] == cv2.GC_FGD
    assert labels[50, 54] == cv2.GC_BGD


def test_a_stroke_is_as_wide_as_it_was_drawn() -> None:
    """Its radius is in pixels of the picture."""
    labels = written(Strokes([Stroke(points=[(20, 50), (180, 50)], radius_px=5)], LIMITS))

    assert np.count_nonzero(labels[:, 100] == cv2.GC_FGD) in {10, 11}


def test_a_stroke_shows_the_size_of_its_object() -> None:
    """It covers most of the object; a dot may lie on anything, and so may a negative stroke."""
    line, dot = Stroke(points=[(20, 50), (59, 60)]), Stroke(points=[(20, 50), (24, 50)])

    assert Strokes([line], LIMITS).extent_px == 1.5 * 40
    assert Strokes([dot], LIMITS).extent_px == 0
    assert Strokes([line.model_copy(update={"positive": False})], LIMITS).extent_px == 0


@pytest.mark.parametrize(("length_px", "radius_px", "extent_px"), [(6, 2, 1.5 * 7), (2, 1, 0), (20, 15, 0)])
def test_a_stroke_is_a_line_if_it_is_longer_than_wide(length_px: float, radius_px: float, extent_px: float) -> None:
    """A short thin stroke shows the size of an eye; a tremor of the hand or a dab with a wide brush is a click."""
    stroke = Stroke(points=[(20, 50), (20 + length_px, 50)], radius_px=radius_px)

    assert Strokes([stroke], LIMITS).extent_px == extent_px


def test_a_later_stroke_lies_on_top() -> None:
    """A negative stroke erases the positive one below it."""
    lines = [Stroke(points=[(20, 50), (180, 50)]), Stroke(points=[(100, 10), (100, 90)], positive=False)]

    hints = Strokes(lines, LIMITS)

    assert written(hints)[50, 100] == cv2.GC_BGD
    assert not any(click.positive and abs(click.x - 100) < 7 for click in hints.clicks)


def test_points_of_a_stroke_spread_over_its_length() -> None:
    """They stand in for it where views are compared."""
    clicks = Strokes([Stroke(points=[(20, 20), (20, 90), (180, 90)])], LIMITS).clicks

    assert 10 <= len(clicks) <= 12
    assert min(click.y for click in clicks) < 35
    assert max(click.x for click in clicks) > 150


@pytest.mark.parametrize("far", [1e300, 1.7e308])
def test_a_stroke_far_outside_is_no_error(far: float) -> None:
    """Numbers that no drawing library takes are cut down, and an object is at most as long as the image."""
    hints = Strokes([Stroke(points=[(-far, 50), (20, 50), (far, 50)])], LIMITS)

    assert hints.clicks
    assert hints.extent_px == 1.5 * 200


def test_the_rim_of_a_painting_is_not_sure() -> None:
    """Brushes slip over edges."""
    area = np.zeros((100, 200), np.uint8)
    cv2.circle(area, (100, 50), 30, 255, -1)

    labels = written(Painting(area, LIMITS))

    assert [labels[50, column] for column in (100, 72, 60)] == [cv2.GC_FGD, cv2.GC_PR_BGD, cv2.GC_BGD]


def test_the_points_of_a_painted_ring_lie_on_the_ring() -> None:
    """Its centre, which is outside, is none of them."""
    area = np.zeros((100, 200), np.uint8)
    cv2.circle(area, (100, 50), 30, 255, 6)

    clicks = Painting(area, LIMITS).clicks

    assert len(clicks) >= 10
    assert all(area[int(click.y), int(click.x)] for click in clicks)


def test_a_thin_part_of_a_painting_has_a_core_too() -> None:
    """Depth is judged part by part."""
    area = np.zeros((100, 200), np.uint8)
    cv2.circle(area, (50, 50), 30, 255, -1)
    area[40:43, 120:180] = 255

    assert (written(Painting(area, LIMITS))[41, 130:170] == cv2.GC_FGD).all()
