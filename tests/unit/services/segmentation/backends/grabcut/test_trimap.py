"""Labels for GrabCut, from saliency and clicks."""

from __future__ import annotations

import cv2
import numpy as np

from services.segmentation.backend import Click
from services.segmentation.backends.grabcut.trimap import from_saliency, loosen_around
from services.segmentation.geometry import Box, Frame

FRAME = Frame.fit(Box(0, 0, 100, 100), 100)


def blank() -> np.ndarray:
    """Return labels of a frame without an object."""
    return np.full((100, 100), cv2.GC_BGD, np.uint8)


def test_labels_are_as_sure_as_the_saliency() -> None:
    """From sure to sure not, along a ramp."""
    prior = np.zeros((200, 200), np.uint8)
    prior[:, :100] = np.linspace(255, 0, 100, dtype=np.uint8)

    labels = from_saliency(prior, np.where(prior > 127, np.uint8(255), np.uint8(0)))

    assert [labels[100, column] for column in (5, 40, 80, 150)] == [
        cv2.GC_FGD, cv2.GC_PR_FGD, cv2.GC_PR_BGD, cv2.GC_BGD,
    ]  # fmt: skip


def test_a_click_that_agrees_changes_nothing() -> None:
    """There is nothing to decide again."""
    labels = blank()

    loosen_around(labels, FRAME, [Click(50, 50, positive=False)])

    assert np.array_equal(labels, blank())


def test_a_click_that_contradicts_opens_a_disc() -> None:
    """It reaches 18 % of the long side."""
    labels = blank()

    loosen_around(labels, FRAME, [Click(50, 50, positive=True)])

    assert labels[50, 50] == labels[50, 67] == cv2.GC_PR_FGD
    assert labels[50, 70] == cv2.GC_BGD


def test_the_disc_stops_short_of_the_opposite_click() -> None:
    """At 0.7 of the way."""
    labels = blank()

    loosen_around(labels, FRAME, [Click(50, 50, positive=True), Click(60, 50, positive=False)])

    assert labels[50, 57] == cv2.GC_PR_FGD
    assert labels[50, 59] == cv2.GC_BGD


def test_a_click_outside_of_the_frame_is_no_error() -> None:
    """Negative clicks may lie far from the object."""
    labels = blank()

    loosen_around(labels, FRAME, [Click(500, 500, positive=True)])

    assert np.array_equal(labels, blank())
