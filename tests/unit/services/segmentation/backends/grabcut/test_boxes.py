"""The box decides: which mask fits it, and how far an object may reach over its sides."""

from __future__ import annotations

import numpy as np
import pytest

from services.segmentation.backends.grabcut.boxes import allowed_box, measure_fit
from services.segmentation.geometry import Box, Frame

LIMITS = Box(0, 0, 400, 300)
BOX = Box(100, 100, 200, 200)  # its margin is 5 pixels
FRAME = Frame(Box(80, 80, 220, 220), 140, 140)


def fill(*boxes: Box) -> np.ndarray:
    """Draw boxes of the image into a mask of the frame."""
    mask = np.zeros((400, 400), np.uint8)
    for box in boxes:
        mask[box.slices] = 255
    return mask[FRAME.window.slices]


@pytest.mark.parametrize(
    ("own", "fit"),
    [(BOX, 1.0), (Box(100, 100, 150, 200), 0.5), (Box(100, 100, 200, 225), 0.8), (Box(0, 0, 50, 50), 0.0)],
)
def test_the_fit_is_the_overlap_of_the_boxes(own: Box, fit: float) -> None:
    """A mask that fills half of the box fits by one half."""
    mask = np.zeros((300, 400), np.uint8)
    mask[own.slices] = 255

    assert measure_fit(mask, BOX) == pytest.approx(fit)


def test_an_empty_mask_fits_nothing() -> None:
    """It has no box of its own."""
    assert measure_fit(np.zeros((300, 400), np.uint8), BOX) == 0


def test_an_object_that_ends_in_the_margin_is_not_cut() -> None:
    """It reaches 3 pixels over two sides, and ends there."""
    mask = fill(Box(97, 120, 203, 180))

    assert allowed_box(mask, FRAME, BOX, LIMITS) == Box(95, 95, 205, 205)


def test_an_object_that_runs_on_is_cut_at_the_drawn_side() -> None:
    """On the right it does not end in the margin, so the user's line is the limit there."""
    mask = fill(Box(97, 120, 220, 180))

    assert allowed_box(mask, FRAME, BOX, LIMITS) == Box(95, 95, 200, 205)


def test_a_side_on_the_image_border_is_no_cut() -> None:
    """Where the image ends, the object ends too."""
    box = Box(0, 100, 100, 200)
    frame = Frame(Box(0, 80, 120, 220), 120, 140)
    mask = np.zeros((140, 120), np.uint8)
    mask[40:100, :90] = 255

    assert allowed_box(mask, frame, box, LIMITS) == Box(0, 95, 105, 205)
