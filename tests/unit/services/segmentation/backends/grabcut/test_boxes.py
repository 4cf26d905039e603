"""Drawn boxes: the mask that fits best, and the distance that an object may reach over the sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import pytest

from services.segmentation.backends.grabcut.boxes import end_at_edges, make_drafts, measure_contact, measure_fit, rate
from services.segmentation.backends.grabcut.cut import run_grabcut
from services.segmentation.backends.grabcut.scene import Draft, Ended, Scene
from services.segmentation.geometry import Box, Frame
from services.segmentation.masks import iou
from tests.unit.services.segmentation.photos import LocalFeatures, ball, never_cancel

if TYPE_CHECKING:
    from services.segmentation.saliency import Saliency

BOX = Box(100, 100, 200, 200)  # its margin is 15 pixels
FRAME = Frame(Box(80, 80, 220, 220), 140, 140)


def fill(*boxes: Box) -> np.ndarray:
    """Draw boxes of the image into a mask of the frame."""
    mask = np.zeros((400, 400), np.uint8)
    for box in boxes:
        mask[box.slices] = 255
    return mask[FRAME.window.slices]


class Farsighted:
    """A network that sees a thing in the middle of a view only if the view is wide enough."""

    def __init__(self, least_px: int) -> None:
        self.least_px = least_px
        self.views: list[Box] = []

    def predict(self, _image: np.ndarray, _cached: object, box: Box) -> np.ndarray:
        """See Saliency.predict."""
        self.views.append(box)
        seen = np.zeros((320, 320), np.uint8)
        if box.width >= self.least_px:
            seen[80:240, 80:240] = 255
        return seen


def draft(network: Farsighted) -> list[Draft]:
    """Return the drafts of the box in a grey image."""
    scene = Scene(np.full((400, 400, 3), 90, np.uint8), cast("Saliency", network), LocalFeatures(), never_cancel)
    return list(make_drafts(scene, BOX))


def test_a_part_that_only_a_wider_view_shows_is_drafted() -> None:
    """The close view has a margin of 15 pixels, and the wider one of 30; without either, the box alone is left."""
    seen, unseen = draft(Farsighted(150)), draft(Farsighted(200))

    assert [one.is_plain for one in seen] == [False, False, True, True]
    assert [one.is_bounded for one in seen] == [False, False, False, True]
    assert (seen[0].labels == cv2.GC_FGD).any()
    assert [one.is_plain for one in unseen] == [True, True]


class HalfBlind:
    """A network that sees the left half of the ball of `ball()` alone."""

    def predict(self, image: np.ndarray, _cached: object, box: Box) -> np.ndarray:
        """See Saliency.predict."""
        seen = ball()[1]
        seen[:, image.shape[1] // 2 :] = 0
        return np.asarray(cv2.resize(seen[box.slices], (320, 320), interpolation=cv2.INTER_NEAREST))


def test_colours_complete_an_object_that_is_half_seen() -> None:
    """The drafts of the views must stay in the half; those of their mean and of the whole box may leave it."""
    image, truth = ball()
    scene = Scene(image, cast("Saliency", HalfBlind()), LocalFeatures(), never_cancel)

    drafts = list(make_drafts(scene, Box(74, 44, 167, 137)))

    overlaps = [
        iou(run_grabcut(one.frame.crop(image), one.labels, never_cancel), one.frame.crop(truth)) for one in drafts
    ]
    assert [overlap > 0.9 for overlap in overlaps] == [False, False, True, True, True]


def test_an_outline_along_the_drawn_sides_is_no_edge() -> None:
    """A mask that fills the box touches all sides of it, a disc hardly any."""
    disc = np.zeros((400, 400), np.uint8)
    cv2.circle(disc, (149, 149), 50, 255, -1)

    assert measure_contact(fill(BOX), FRAME, BOX) > 0.9
    assert measure_contact(disc[FRAME.window.slices], FRAME, BOX) < 0.3
    assert measure_contact(fill(Box(120, 120, 180, 180)), FRAME, BOX) == 0


def test_a_second_view_is_looked_at_only_when_it_is_asked_for() -> None:
    """The engine stops at the first draft that answers the box, and the network takes most of the time."""
    network = Farsighted(0)
    scene = Scene(np.full((400, 400, 3), 90, np.uint8), cast("Saliency", network), LocalFeatures(), never_cancel)

    next(make_drafts(scene, BOX))

    assert network.views == [Box(85, 85, 215, 215)]


@pytest.mark.parametrize(
    ("own", "fit"),
    [
        (BOX, 1.0),
        (Box(100, 100, 150, 200), 0.5),
        (Box(100, 100, 200, 225), 0.8),
        (Box(0, 0, 50, 50), 0.0),
        (Box(91, 95, 210, 200), 1.0),
    ],
)
def test_the_fit_is_the_overlap_of_the_boxes(own: Box, fit: float) -> None:
    """A mask that fills half of the box fits by one half."""
    mask = np.zeros((300, 400), np.uint8)
    mask[own.slices] = 255

    assert measure_fit(mask, BOX) == pytest.approx(fit)


def test_an_empty_mask_fits_nothing() -> None:
    """It has no box of its own."""
    assert measure_fit(np.zeros((300, 400), np.uint8), BOX) == 0


def grey(seed: int = 5) -> np.ndarray:
    """Return a grainy grey picture of the frame's size."""
    return np.random.default_rng(seed).integers(100, 116, (140, 140, 3), np.uint8)


def find_ends(mask: np.ndarray) -> np.ndarray:
    """Return for each row with a mask the column after its last pixel."""
    rows = np.flatnonzero((mask > 0).any(axis=1))
    return np.asarray(mask.shape[1] - np.argmax(mask[rows, ::-1] > 0, axis=1))


def test_an_object_that_ends_in_the_margin_is_taken_whole() -> None:
    """It reaches 12 pixels over two sides, and ends there."""
    mask = fill(Box(88, 120, 212, 180))

    ended = end_at_edges(grey(), mask, FRAME, BOX)

    assert ended.cut == 0
    np.testing.assert_array_equal(ended.mask, mask)


def test_an_object_that_runs_on_ends_at_an_edge_near_the_side() -> None:
    """The bar becomes darker 6 pixels beyond the drawn side, so it ends there."""
    mask = fill(Box(97, 120, 220, 180))
    pixels = grey()
    pixels[:, 206 - 80 :] -= 60

    ended = end_at_edges(pixels, mask, FRAME, BOX)

    assert np.abs(find_ends(ended.mask) - (206 - 80)).max() <= 2
    assert 0.1 < ended.cut < 0.4


@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
def test_an_object_without_an_edge_is_not_cut_straight(side: str) -> None:
    """A bar of one tone ends in the margin of the side that it runs over, in a line that is not that side's."""
    turns = ["right", "top", "left", "bottom"].index(side)
    mask = np.rot90(fill(Box(110, 115, 220, 185)), turns)

    ended = end_at_edges(np.rot90(grey(), turns), np.ascontiguousarray(mask), FRAME, BOX)

    ends = find_ends(np.rot90(ended.mask, -turns))
    assert (200 - 80) * 0.9 < ends.min() <= ends.max() <= 200 + 15 - 80
    assert np.bincount(ends).max() < len(ends) / 2


def test_a_side_on_the_image_border_cuts_nothing() -> None:
    """Where the image ends, the object ends too, to the last pixel."""
    box = Box(0, 100, 100, 200)
    frame = Frame(Box(0, 80, 120, 220), 120, 140)
    mask = np.zeros((140, 120), np.uint8)
    mask[40:100] = 255

    ended = end_at_edges(grey()[:, :120], mask, frame, box)

    assert ended.cut > 0  # on the right
    assert (ended.mask[40:100, 0] == 255).all()
    assert (ended.mask[:, 116:] == 0).all()


def test_a_mask_that_was_cut_answers_a_box_less_well() -> None:
    """Of two masks with the same box, the one with an outline of its own is taken."""
    mask = np.zeros((300, 400), np.uint8)
    mask[BOX.slices] = 255

    assert rate(Ended(mask, 0.4), BOX) < rate(Ended(mask, 0.0), BOX) == 1
