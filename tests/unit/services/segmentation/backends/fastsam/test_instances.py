"""Instances from arrays written by hand, so that no network is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.segmentation.backends.fastsam.instances import EDGE, LEVELS, Instances, record
from services.segmentation.geometry import Box
from services.segmentation.masks import iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 240  # the network saw a quarter of it
Corners = tuple[int, int, int, int]


def detect(*boxes: Corners, scores: list[float] | None = None) -> Instances:
    """Rectangles of the picture as things; the first is the surest."""
    belief = np.full((len(boxes), HEIGHT // 4, WIDTH // 4), EDGE - 6 * LEVELS, np.uint8)
    for plane, (x0, y0, x1, y1) in zip(belief, boxes, strict=True):
        plane[y0 // 4 : y1 // 4, x0 // 4 : x1 // 4] = EDGE + 6 * LEVELS
    sizes = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    shares = np.asarray(np.array(boxes, np.float32).reshape(-1, 4) / sizes, np.float32)
    sure = np.array(scores or [0.9 - 0.1 * number for number in range(len(boxes))], np.float32)
    return Instances(record(belief, shares, sure), Box(0, 0, WIDTH, HEIGHT))


def fill(*boxes: Corners) -> NDArray[np.uint8]:
    """Return the true mask of rectangles."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = 255
    return mask


A, B, INNER = (40, 40, 120, 120), (200, 80, 280, 200), (60, 60, 100, 100)


def test_a_mask_lies_where_the_thing_was_seen() -> None:
    """At the picture's size, and to the pixel."""
    assert iou(detect(A, B).mask([1]), fill(B)) > 0.99


def test_masks_are_joined_and_cut_out() -> None:
    """Several things, and things that are left out."""
    things = detect(A, B, INNER)

    assert iou(things.mask([0, 1]), fill(A, B)) > 0.98
    assert iou(things.mask([0], leave=[2]), fill(A) - fill(INNER)) > 0.95


def test_the_surest_comes_first_and_nothing_comes_twice() -> None:
    """Of two nearly equal instances the more confident one stays; an empty one is dropped."""
    things = detect(A, (44, 40, 124, 120), B, (4, 4, 4, 4), scores=[0.5, 0.6, 0.9, 0.99])

    assert [round(things.score(number), 1) for number in range(len(things))] == [0.9, 0.6]


def test_belief_counts_only_within_the_box() -> None:
    """The network's output elsewhere is ignored."""
    belief = np.full((1, 60, 80), EDGE + 99, np.uint8)
    things = Instances(
        record(belief, np.array([[0.25, 0.25, 0.5, 0.5]], np.float32), np.array([0.9], np.float32)),
        Box(0, 0, WIDTH, HEIGHT),
    )

    assert iou(things.mask([0]), fill((80, 60, 160, 120))) == 1


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_place_is_under_a_thing_where_its_mask_is(number: int) -> None:
    """Every pixel of it, to the edge."""
    things = detect(A, B, INNER)
    places = [(float(x), float(y)) for y in range(0, HEIGHT, 3) for x in range(0, WIDTH, 3)]

    inside = things.contain(places)[number]

    mask = things.mask([number])
    assert inside.tolist() == [mask[int(y), int(x)] >= 128 for x, y in places]


def test_the_corners_of_the_picture_can_be_asked_about() -> None:
    """They are outside of no array."""
    things = detect((0, 0, WIDTH, HEIGHT))

    assert things.contain([(0, 0), (WIDTH - 1, HEIGHT - 1), (WIDTH - 0.01, 0)]).all()


def test_what_things_share_with_an_area_is_measured() -> None:
    """As parts of the picture."""
    things = detect(A, B)

    shared, painted = things.overlap_with(fill((40, 40, 120, 80)))

    assert shared == pytest.approx([0.5 * 80 * 80 / (WIDTH * HEIGHT), 0], abs=1e-3)
    assert painted == pytest.approx(80 * 40 / (WIDTH * HEIGHT), abs=1e-3)
    assert things.areas == pytest.approx([80 * 80 / (WIDTH * HEIGHT), 80 * 120 / (WIDTH * HEIGHT)], abs=1e-3)


def test_nothing_seen_is_an_array_like_any_other() -> None:
    """It travels through the store, too."""
    assert len(detect()) == 0
