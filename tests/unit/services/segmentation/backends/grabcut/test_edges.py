"""Enlarging a small hard mask to a large picture."""

from __future__ import annotations

import cv2
import numpy as np

from services.segmentation.backends.grabcut.edges import refine
from services.segmentation.geometry import Box, Frame, whole_image
from services.segmentation.masks import binary, iou
from tests.unit.services.segmentation.photos import ball


def test_the_edge_follows_the_full_picture() -> None:
    """A mask of 128 pixels becomes more exact than the same mask enlarged."""
    picture, truth = ball(1200, 900)
    frame = Frame.fit(whole_image(picture), 128)
    small = frame.crop(picture)
    rough = binary(frame.crop(truth) > 127)

    refined = refine(picture, frame, small, rough)

    enlarged = cv2.resize(rough, (1200, 900), interpolation=cv2.INTER_NEAREST)
    assert iou(refined, truth) > 0.995 > iou(np.asarray(enlarged, np.uint8), truth)


def test_nothing_is_found_outside_of_the_frame() -> None:
    """A frame that is full gives a mask that fills exactly its window."""
    picture, _ = ball()
    frame = Frame.fit(Box(30, 20, 130, 90), 50)

    refined = refine(picture, frame, frame.crop(picture), np.full((frame.height, frame.width), 255, np.uint8))

    expected = np.zeros(picture.shape[:2], np.uint8)
    expected[20:90, 30:130] = 255
    assert np.array_equal(refined, expected)


def test_an_empty_mask_stays_empty() -> None:
    """No edge, no values."""
    picture, _ = ball()
    frame = Frame.fit(whole_image(picture), 64)

    assert not refine(picture, frame, frame.crop(picture), np.zeros((frame.height, frame.width), np.uint8)).any()


def test_tiles_leave_no_seams() -> None:
    """Far inside the object the mask is full, far outside it is 0, whatever tile a pixel is in."""
    picture, truth = ball(1200, 900)
    frame = Frame.fit(whole_image(picture), 512)

    refined = refine(picture, frame, frame.crop(picture), binary(frame.crop(truth) > 127))

    brush = np.ones((25, 25), np.uint8)
    assert (refined[cv2.erode(truth, brush) > 0] == 255).all()
    assert (refined[cv2.dilate(truth, brush) == 0] == 0).all()
