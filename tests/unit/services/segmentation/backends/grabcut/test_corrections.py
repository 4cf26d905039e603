"""Later clicks edit the mask where they are, and none undoes an earlier one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.segmentation.backend import Click
from services.segmentation.backends.grabcut.corrections import contradicts, replay
from services.segmentation.backends.grabcut.scene import Ended, Scene
from services.segmentation.masks import iou
from tests.unit.services.segmentation.photos import LocalFeatures, ball, ellipse, never_cancel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.image_codec import Grey

IMAGE, TRUTH = ball()  # a ball of 45 pixels radius around 120, 90
SCENE = Scene(IMAGE, None, LocalFeatures(), never_cancel)
CENTRE = Click(120, 90, positive=True)


class Answers:
    """Stands for the engine: returns the same masks in order, and keeps the clicks of each call."""

    def __init__(self, *masks: Grey | None, cut: float = 0.0) -> None:
        self.masks = list(masks)
        self.cut = cut
        self.calls: list[tuple[Click, ...]] = []

    def __call__(self, clicks: Sequence[Click]) -> Ended | None:
        """Return the next mask."""
        self.calls.append(tuple(clicks))
        mask = self.masks.pop(0)
        return None if mask is None else Ended(mask, self.cut)


def bump() -> Grey:
    """Return the ball with a wrong bump of 10 pixels at its right."""
    return np.maximum(TRUTH, ellipse(IMAGE, 165, 90, 10, 10))


def dent() -> Grey:
    """Return the ball with a wrong dent of 10 pixels at its right."""
    return np.minimum(TRUTH, 255 - ellipse(IMAGE, 162, 90, 10, 10))


@pytest.mark.parametrize(
    ("first", "click"),
    [(bump(), Click(170, 90, positive=False)), (dent(), Click(157, 90, positive=True))],
    ids=["remove", "add"],
)
def test_a_shallow_click_corrects_the_edge(first: Grey, click: Click) -> None:
    """The engine is not called again, and the mask comes close to the truth."""
    answers = Answers(first)

    mask = replay(SCENE, [CENTRE, click], answers)

    assert mask is not None
    assert answers.calls == [(CENTRE,)]
    assert iou(mask, TRUTH) > max(0.97, iou(first, TRUTH))


def test_a_shallow_click_leaves_the_rest() -> None:
    """No pixel changes far from the click."""
    first = bump()

    mask = replay(SCENE, [CENTRE, Click(170, 90, positive=False)], Answers(first))

    assert mask is not None
    np.testing.assert_array_equal(mask[:, :120], first[:, :120])


def test_a_negative_click_only_removes() -> None:
    """Also inside its disc, nothing is added."""
    first = dent()

    mask = replay(SCENE, [CENTRE, Click(120, 50, positive=False)], Answers(first))

    assert mask is not None
    assert (mask <= first).all()


def test_a_deep_click_asks_again() -> None:
    """It may mean another object: the engine gets all clicks."""
    other = ellipse(IMAGE, 30, 30, 20, 20)
    clicks = [Click(30, 30, positive=True), Click(120, 90, positive=False)]
    answers = Answers(np.maximum(TRUTH, other), other)

    mask = replay(SCENE, clicks, answers)

    assert answers.calls == [tuple(clicks[:1]), tuple(clicks)]
    np.testing.assert_array_equal(mask, other)


def test_a_positive_click_beside_a_small_mask_extends_it() -> None:
    """It means more of this thing; the engine, which may see a far larger one there, is not asked."""
    first = ellipse(IMAGE, 120, 90, 16, 16)
    answers = Answers(first)

    mask = replay(SCENE, [CENTRE, Click(142, 90, positive=True)], answers)

    assert mask is not None
    assert answers.calls == [(CENTRE,)]
    assert mask[90, 142] > 127
    assert iou(mask, TRUTH) > iou(first, TRUTH)


def test_after_a_negative_click_a_positive_one_extends_the_mask() -> None:
    """The negative one rejected everything; far beside the rest, too, the engine is not asked for it again."""
    small = ellipse(IMAGE, 30, 30, 10, 10)
    clicks = [Click(30, 30, positive=True), Click(120, 90, positive=False), Click(60, 30, positive=True)]
    answers = Answers(np.full_like(TRUTH, 255), small)

    mask = replay(SCENE, clicks, answers)

    assert mask is not None
    assert answers.calls == [tuple(clicks[:1]), tuple(clicks[:2])]
    assert not contradicts(mask, clicks[-1])


def test_a_negative_click_asks_for_a_part() -> None:
    """An answer of which more than a fifth lies outside the mask is another object, so the mask is edited."""
    clicks = [Click(30, 30, positive=True), Click(120, 90, positive=False)]
    elsewhere = np.maximum(ellipse(IMAGE, 30, 30, 20, 20), ellipse(IMAGE, 200, 150, 30, 30))
    first = np.maximum(TRUTH, ellipse(IMAGE, 30, 30, 20, 20))

    mask = replay(SCENE, clicks, Answers(first, elsewhere))

    assert mask is not None
    assert (mask <= first).all()


@pytest.mark.parametrize(("cut", "is_taken"), [(0.0, True), (0.9, False)])
def test_an_answer_that_its_view_cut_off_loses_to_an_edit(cut: float, *, is_taken: bool) -> None:
    """A part with straight edges is no object, and the edit takes the ball away."""
    other = ellipse(IMAGE, 30, 30, 20, 20)
    half = other.copy()
    half[:30] = 0
    clicks = [Click(30, 35, positive=True), Click(120, 90, positive=False)]

    mask = replay(SCENE, clicks, Answers(np.maximum(TRUTH, other), half, cut=cut))

    assert mask is not None
    assert np.array_equal(mask, half) == is_taken
    assert (mask[15:25, 25:35] > 127).all() == (not is_taken)


def test_a_negative_click_beside_the_core_takes_a_part_away() -> None:
    """An answer with a tenth of the mask would take the object, so the mask is edited."""
    clicks = [CENTRE, Click(120, 62, positive=False)]
    tiny = ellipse(IMAGE, 120, 90, 12, 12)

    mask = replay(SCENE, clicks, Answers(TRUTH, tiny))

    assert mask is not None
    assert np.count_nonzero(mask) > 0.5 * np.count_nonzero(TRUTH)


def test_a_click_that_agrees_changes_nothing() -> None:
    """The mask is right there already."""
    answers = Answers(TRUTH)

    mask = replay(SCENE, [CENTRE, Click(100, 90, positive=True), Click(10, 10, positive=False)], answers)

    assert mask is TRUTH
    assert len(answers.calls) == 1


def test_no_click_flips_an_earlier_one() -> None:
    """Even where the engine's new answer does: the mask is edited there."""
    clicks = [CENTRE, Click(126, 90, positive=False), Click(20, 20, positive=True)]
    everything = np.full_like(TRUTH, 255)

    mask = replay(SCENE, clicks, Answers(TRUTH, *[everything] * 4))

    assert mask is not None
    assert [mask[int(click.y), int(click.x)] > 127 for click in clicks] == [True, False, True]


def test_random_clicks_all_hold() -> None:
    """After random clicks, the final mask agrees with each of them."""
    places = np.random.default_rng(8).integers((0, 0), (240, 180), (40, 2)).tolist()
    clicks = [CENTRE, *(Click(x, y, positive=bool(number % 2)) for number, (x, y) in enumerate(places))]

    mask = replay(SCENE, clicks, Answers(*[TRUTH] * 40))

    assert mask is not None
    assert all((mask[int(click.y), int(click.x)] > 127) == click.positive for click in clicks)


def test_without_a_first_answer_the_engine_is_asked_again() -> None:
    """A second click may find the object."""
    answers = Answers(None, TRUTH)

    assert replay(SCENE, [CENTRE, Click(100, 90, positive=True)], answers) is TRUTH


def test_negative_clicks_alone_find_nothing() -> None:
    """The engine gets them all, and has no answer."""
    answers = Answers(None)
    clicks = [Click(20, 20, positive=False), Click(30, 30, positive=False)]

    assert replay(SCENE, clicks, answers) is None
    assert answers.calls == [tuple(clicks)]


def masks_after_each(clicks: Sequence[Click], *, with_previous: bool) -> list[Grey]:
    """Return the masks after 1, 2, ... clicks; the engine answers each with a disc around its last positive click."""

    def answer(known: Sequence[Click]) -> Ended:
        last = [click for click in known if click.positive][-1]
        return Ended(np.maximum(TRUTH, ellipse(IMAGE, int(last.x), int(last.y), 12, 12)), 0.0)

    masks: list[Grey] = []
    for count in range(1, len(clicks) + 1):
        previous = masks[-1] if with_previous and masks else None
        mask = replay(SCENE, clicks[:count], answer, previous)
        assert mask is not None
        masks.append(mask)
    return masks


def test_the_previous_mask_saves_time_and_changes_no_byte() -> None:
    """A replica that cannot read it replays the clicks and answers the same."""
    places = np.random.default_rng(3).integers((0, 0), (240, 180), (14, 2)).tolist()
    clicks = [CENTRE, *(Click(x, y, positive=bool(number % 2)) for number, (x, y) in enumerate(places))]

    masks = masks_after_each(clicks, with_previous=True)

    assert all(map(np.array_equal, masks, masks_after_each(clicks, with_previous=False)))


def test_a_previous_mask_is_corrected_without_the_engine() -> None:
    """Even if it came from a box: a shallow click edits it."""
    mask = replay(SCENE, [Click(170, 90, positive=False)], Answers(), bump())

    assert mask is not None
    assert iou(mask, TRUTH) > 0.97
