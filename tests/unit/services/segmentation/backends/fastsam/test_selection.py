"""The selection of the object that a prompt means, among rectangles."""

from __future__ import annotations

import numpy as np
import pytest

from services.segmentation.backend import Click, Prompt
from services.segmentation.backends.fastsam.selection import Selection, excluded_mask, find, rank_selections
from services.segmentation.geometry import Box
from services.segmentation.masks import iou
from shared.errors import NothingFound
from shared.messages import Stroke
from tests.unit.services.segmentation.backends.fastsam.test_instances import INNER, A, B, detect, fill

THINGS = detect(A, B, INNER)  # numbers 0, 1 and 2
FAR = (4.0, 4.0)
ON_A, ON_B, ON_INNER = (50.0, 50.0), (240.0, 120.0), (80.0, 80.0)


def points(*meant: tuple[float, float], denied: tuple[tuple[float, float], ...] = (), candidates: int = 1) -> Prompt:
    """Clicks on the object, and beside it."""
    clicks = [Click(*at, positive=True) for at in meant] + [Click(*at, positive=False) for at in denied]
    return Prompt(points=tuple(clicks), candidates=candidates)


def test_a_point_means_the_smallest_thing_under_it() -> None:
    """The larger one is the second guess."""
    assert rank_selections(THINGS, points(ON_INNER)) == [Selection((2,)), Selection((0,))]


def test_two_points_mean_the_smallest_thing_that_holds_both() -> None:
    """Not two of its parts."""
    assert rank_selections(THINGS, points(ON_A, ON_INNER))[0] == Selection((0,))


def test_points_on_separate_things_mean_both() -> None:
    """Together."""
    assert rank_selections(THINGS, points(ON_A, ON_B)) == [Selection((0, 1))]


def test_what_is_much_larger_than_its_parts_is_the_ground_they_lie_on() -> None:
    """It comes after them."""
    ground = detect(A, B, (0, 0, 320, 240))

    assert rank_selections(ground, points(ON_A, ON_B)) == [Selection((0, 1)), Selection((2,))]


def test_a_negative_point_rules_things_out() -> None:
    """The one below it, but not the smaller one beside it."""
    assert rank_selections(THINGS, points(ON_INNER, denied=(ON_A,))) == [Selection((2,))]


def test_a_negative_point_cuts_the_thing_below_it_out() -> None:
    """Where whatever was meant lies below it as well."""
    assert rank_selections(THINGS, points(ON_A, denied=(ON_INNER,))) == [Selection((0,), leave=(2,))]


def test_what_is_meant_and_denied_at_once_is_nothing() -> None:
    """There is nothing that could be cut out."""
    assert rank_selections(THINGS, points(ON_B, denied=((210.0, 90.0),))) == []


def test_what_was_ruled_out_has_a_mask() -> None:
    """The smallest thing under each negative point, unless it is also meant."""
    out = excluded_mask(THINGS, points(ON_A, denied=(ON_INNER, ON_B, FAR)))

    assert out is not None
    assert iou(out, fill(INNER, B)) > 0.98
    assert excluded_mask(THINGS, points(ON_A, denied=(ON_A,))) is None
    assert excluded_mask(THINGS, points(ON_A)) is None


def test_a_box_means_the_thing_that_fits_it() -> None:
    """The better, the earlier; where none fits, all that lies in it."""
    assert rank_selections(THINGS, Prompt(box=Box(55, 55, 105, 105)))[0] == Selection((2,))
    assert rank_selections(THINGS, Prompt(box=Box(40, 40, 120, 120)))[0] == Selection((0,))
    small = detect((20, 20, 40, 40), (280, 200, 300, 220))
    assert rank_selections(small, Prompt(box=Box(0, 0, 320, 240))) == [Selection((0, 1))]
    assert rank_selections(small, Prompt(box=Box(100, 100, 200, 200))) == []


def test_a_stroke_is_held_by_what_most_of_it_lies_on() -> None:
    """It may run over the edge."""
    over = Stroke(points=[(60, 106), (60, 122)], radius_px=3)
    beside = Stroke(points=[ON_INNER, (82, 82)], radius_px=3, positive=False)

    assert rank_selections(THINGS, Prompt(strokes=(over,))) == [Selection((0,))]
    assert rank_selections(THINGS, Prompt(strokes=(over, beside))) == [Selection((0,), leave=(2,))]


def test_a_painted_area_means_what_has_its_shape() -> None:
    """Otherwise the painted instances, otherwise the one below the paint."""
    assert rank_selections(THINGS, Prompt(guidance=np.roll(fill(B), 8, axis=0)))[0] == Selection((1,))
    assert rank_selections(detect((20, 20, 40, 40), (280, 20, 300, 40)), Prompt(guidance=fill((0, 0, 320, 60)))) == [
        Selection((0, 1))
    ]
    assert rank_selections(THINGS, Prompt(guidance=fill((44, 44, 52, 52)))) == [Selection((0,))]


def test_without_a_prompt_large_and_central_things_come_first() -> None:
    """And the ground not at all."""
    things = detect((0, 0, 20, 20), (120, 80, 200, 160), (0, 0, 320, 240))

    assert rank_selections(things, Prompt(auto=True)) == [Selection((1,)), Selection((0,))]


@pytest.mark.parametrize("prompt", [points(FAR), points(ON_A, FAR), Prompt(box=Box(0, 200, 20, 220))])
def test_where_nothing_fits_nothing_was_found(prompt: Prompt) -> None:
    """Rather than the nearest best."""
    with pytest.raises(NothingFound):
        find(THINGS, prompt)


def test_in_an_empty_picture_nothing_is_found() -> None:
    """By whatever prompt."""
    for prompt in (points(ON_A), Prompt(auto=True), Prompt(box=Box(0, 0, 9, 9)), Prompt(guidance=fill(A))):
        with pytest.raises(NothingFound):
            find(detect(), prompt)


def test_no_candidate_is_surer_than_a_better_one() -> None:
    """However sure the network is of each."""
    things = detect(A, INNER, scores=[0.9, 0.5])

    found = find(things, points(ON_INNER, candidates=5))

    assert [round(candidate.score, 1) for candidate in found] == [0.5, 0.5]
