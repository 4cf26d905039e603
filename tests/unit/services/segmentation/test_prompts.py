"""The prompt of a request: precedence and validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.segmentation.backend import Click, Prompt
from services.segmentation.geometry import Box
from services.segmentation.prompts import from_request, takes_back
from shared.errors import BadInput
from shared.messages import MaskRequest, Stroke

WIDTH, HEIGHT = 100, 50


def prompt(guidance: np.ndarray | None = None, before: np.ndarray | None = None, **fields: Any) -> Prompt:
    """Read a request about a picture of 100 x 50 pixels."""
    request = MaskRequest(request_id="r1", image="a" * 64, **fields)
    return from_request(request, WIDTH, HEIGHT, guidance, before)


def test_points_win_over_everything() -> None:
    """As in the original service."""
    given = prompt(
        points=[(3, 4, 1), (5, 6, 0)], box=(0, 0, 9, 9), strokes=[Stroke(points=[(1, 1)])], auto=True,
        guidance=np.full((5, 5), 255, np.uint8),
    )  # fmt: skip

    assert given.points == (Click(3, 4, positive=True), Click(5, 6, positive=False))
    assert (given.box, given.strokes, given.guidance, given.auto) == (None, (), None, False)


def test_a_box_wins_over_strokes() -> None:
    """The order is points, box, strokes, mask, auto."""
    given = prompt(box=(0, 0, 9, 9), strokes=[Stroke(points=[(1, 1)])])

    assert given.box == Box(0, 0, 9, 9)
    assert given.strokes == ()


def test_strokes_win_over_a_mask() -> None:
    """A new stroke is newer than the mask."""
    strokes = [Stroke(points=[(1, 1)])]

    given = prompt(strokes=strokes, guidance=np.full((5, 5), 255, np.uint8))

    assert given.strokes == tuple(strokes)
    assert given.guidance is None


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((1.9, 2.9, 10.9, 20.9), Box(1, 2, 10, 20)),
        ((-5, -5, 500, 500), Box(0, 0, 100, 50)),
        ((40, 30, 20, 10), Box(20, 10, 40, 30)),
        ((40, 10, 20, 30), Box(20, 10, 40, 30)),
        ((40, 30, 40, 30), Box(40, 30, 41, 31)),
        ((200, 200, 300, 300), Box(99, 49, 100, 50)),
    ],
)
def test_a_box_is_cut_down_to_pixels_of_the_picture(box: tuple[float, ...], window: Box) -> None:
    """Whole pixels, inside, at least one; the corners may come in any order."""
    assert prompt(box=box).box == window


@pytest.mark.parametrize("point", [(-0.1, 5), (100, 5), (5, 50)])
def test_a_point_outside_the_picture_is_refused(point: tuple[float, float]) -> None:
    """The client has mixed up its scales; guessing would hide that."""
    with pytest.raises(BadInput, match="outside the image of 100 x 50"):
        prompt(points=[(*point, 1)])


def test_only_negative_points_are_refused() -> None:
    """Without a positive point there is no object."""
    with pytest.raises(BadInput, match="At least one point must lie on the object"):
        prompt(points=[(5, 5, 0)])


def test_of_clicks_on_one_pixel_the_last_counts() -> None:
    """A second click on the same pixel is a correction of the first."""
    given = prompt(points=[(3.2, 4.9, 0), (9, 9, 1), (3.7, 4.1, 1), (9.5, 9.5, 0)])

    assert given.points == (Click(3.7, 4.1, positive=True), Click(9.5, 9.5, positive=False))


def test_a_positive_click_that_was_taken_back_is_none() -> None:
    """Without a positive point there is no object."""
    with pytest.raises(BadInput, match="At least one point must lie on the object"):
        prompt(points=[(5, 5, 1), (5, 5, 0)])


@pytest.mark.parametrize(
    "stroke",
    [Stroke(points=[(5, 5)], positive=False), Stroke(points=[(-5, 5), (5, 90)])],
)
def test_strokes_that_touch_no_object_are_refused(stroke: Stroke) -> None:
    """Negative ones alone, or those wholly outside."""
    with pytest.raises(BadInput):
        prompt(strokes=[stroke])


def test_a_stroke_may_leave_the_picture() -> None:
    """Hands slip over the border."""
    assert prompt(strokes=[Stroke(points=[(5, 5), (-20, 5)])]).strokes


def test_a_guidance_mask_is_brought_to_the_size_of_the_picture() -> None:
    """Brighter than 100 counts, nearest neighbour."""
    mask = np.zeros((5, 10), np.uint8)
    mask[0, 0], mask[4, 9] = 101, 100

    painted = prompt(guidance=mask).guidance

    assert painted is not None
    assert painted.shape == (HEIGHT, WIDTH)
    assert (painted[:10, :10] == 255).all()
    assert np.count_nonzero(painted) == 100


def test_an_empty_guidance_mask_means_the_main_subject() -> None:
    """The deployed client sends one when nothing has been painted."""
    assert prompt(guidance=np.zeros((5, 10), np.uint8)).auto


def test_nothing_at_all_is_refused_with_the_choices() -> None:
    """The error text lists the possible prompts."""
    with pytest.raises(BadInput, match="points, a box, strokes, a mask, or auto"):
        prompt()


def test_the_number_of_answers_is_passed_on() -> None:
    """Engines compute alternatives only if more than one is wanted."""
    assert prompt(auto=True, candidates=4).candidates == 4


def test_a_previous_mask_needs_a_point() -> None:
    """The last point corrects it; a box would ignore it."""
    with pytest.raises(BadInput, match="needs points"):
        prompt(box=(0, 0, 9, 9), previous="b" * 64)


def test_a_previous_mask_of_another_size_is_refused() -> None:
    """It belongs to another image."""
    with pytest.raises(BadInput, match="the image's size, 100 x 50"):
        prompt(before=np.zeros((50, 99), np.uint8), points=[(5, 5, 1)], previous="b" * 64)


def test_a_negative_point_may_correct_a_previous_mask() -> None:
    """The mask shows the object, so no positive point is needed."""
    before = np.full((HEIGHT, WIDTH), 255, np.uint8)

    given = prompt(before=before, points=[(5, 5, 0)], previous="b" * 64)

    assert given.previous is before
    assert given.points == (Click(5, 5, positive=False),)


def test_without_the_mask_itself_its_points_must_do() -> None:
    """The mask that is named could not be read."""
    with pytest.raises(BadInput, match="At least one point must lie on the object"):
        prompt(points=[(5, 5, 0)], previous="b" * 64)


@pytest.mark.parametrize(
    ("points", "expected"),
    [([(5, 5, 1)], False), ([(5, 5, 1), (6, 5, 0)], False), ([(5.2, 5, 1), (6, 5, 1), (5.9, 5.5, 0)], True)],
)
def test_a_point_on_the_pixel_of_an_earlier_one_takes_it_back(points: list[Any], expected: bool) -> None:  # noqa: FBT001
    """The mask before it must not count, because it followed the earlier one."""
    assert takes_back(MaskRequest(request_id="r1", image="a" * 64, points=points)) is expected
