"""The default engine on real photos, with and without its weights."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.segmentation.backend import Click, Prompt, load
from services.segmentation.geometry import Box, whole_image
from services.segmentation.masks import INSIDE, bbox, iou
from shared.errors import NothingFound
from shared.messages import Stroke
from tests.unit.services.segmentation.photos import (
    WITH_WEIGHTS,
    WITHOUT_WEIGHTS,
    LocalFeatures,
    ball,
    ellipse,
    needs_weights,
    never_cancel,
    photo,
)

ASTRONAUT, CAT, COFFEE, ROCKET = (photo(name) for name in ("astronaut", "cat", "coffee", "rocket"))
PATCH = ellipse(ASTRONAUT, 170, 386, 38, 38)
CUP_AND_SAUCER = ellipse(COFFEE, 278, 200, 200, 185)
EYE = ellipse(CAT, 170, 115, 34, 32)


def find(image: np.ndarray, prompt: Prompt, settings: object = WITH_WEIGHTS) -> np.ndarray:
    """Return the engine's best mask."""
    return load("grabcut", settings).segment(image, prompt, LocalFeatures(), never_cancel)[0].mask  # type: ignore[arg-type]


def click(*points: tuple[float, float, bool], candidates: int = 1) -> Prompt:
    """Point at things."""
    return Prompt(points=tuple(Click(x, y, positive=on) for x, y, on in points), candidates=candidates)


@needs_weights
def test_one_click_takes_the_whole_object() -> None:
    """A click on the coffee takes cup, saucer and spoon."""
    assert iou(find(COFFEE, click((280, 90, True))), CUP_AND_SAUCER) > 0.9


@needs_weights
@pytest.mark.parametrize(
    ("image", "place", "thing"),
    [(ASTRONAUT, (170, 385), PATCH), (CAT, (170, 110), EYE)],
    ids=["patch", "eye"],
)
def test_one_click_on_a_distinct_part_takes_the_part(
    image: np.ndarray, place: tuple[float, float], thing: np.ndarray
) -> None:
    """The patch and the eye look the same at two magnifications, so neither the astronaut nor the cat is meant."""
    assert iou(find(image, click((*place, True))), thing) > 0.75


@needs_weights
def test_one_click_beside_a_part_takes_the_whole_object() -> None:
    """The suit around the patch is a part of nothing smaller than the astronaut."""
    mask = find(ASTRONAUT, click((200, 300, True)))

    assert mask[385, 170] > INSIDE
    assert np.count_nonzero(mask) > 0.4 * mask.size


@needs_weights
def test_a_negative_click_narrows_the_choice_to_a_part() -> None:
    """The suit is not meant, so the patch on it is."""
    assert iou(find(ASTRONAUT, click((170, 385, True), (200, 300, False))), PATCH) > 0.85


@needs_weights
def test_an_ambiguous_click_offers_the_part_and_the_whole() -> None:
    """The eye alone, and the cat."""
    found = load("grabcut", WITH_WEIGHTS).segment(
        CAT, click((170, 110, True), candidates=5), LocalFeatures(), never_cancel
    )

    assert len(found) >= 2
    assert iou(found[0].mask, EYE) > 0.7
    assert max(np.count_nonzero(candidate.mask) for candidate in found) > 0.5 * CAT.shape[0] * CAT.shape[1]
    assert all(iou(one.mask, other.mask) <= 0.9 for rank, one in enumerate(found) for other in found[rank + 1 :])


@needs_weights
def test_a_box_takes_the_thing_inside() -> None:
    """The patch on the suit, from a loose box."""
    mask = find(ASTRONAUT, Prompt(box=Box(115, 330, 225, 440)))

    assert iou(mask, PATCH) > 0.85


def test_an_agreeing_click_computes_nothing() -> None:
    """Without the mask before it the first click is replayed, and its cuts are found."""
    picture, truth = ball()
    engine, features = load("grabcut", WITHOUT_WEIGHTS), LocalFeatures()
    engine.segment(picture, click((120, 90, True)), features, never_cancel)
    computed = features.computed

    mask = engine.segment(picture, click((120, 90, True), (125, 95, True)), features, never_cancel)[0].mask

    assert features.computed == computed > 1
    assert iou(mask, truth) > 0.95


@needs_weights
def test_a_later_click_looks_at_no_new_view() -> None:
    """The views of the first click on the shuttle contain the second one too."""
    engine, features = load("grabcut", WITH_WEIGHTS), LocalFeatures()
    engine.segment(ASTRONAUT, click((420, 154, True)), features, never_cancel)
    looks = {name for name in features.arrays if name.startswith("u2netp")}

    engine.segment(ASTRONAUT, click((420, 154, True), (430, 51, True)), features, never_cancel)

    assert {name for name in features.arrays if name.startswith("u2netp")} == looks


@needs_weights
def test_a_second_click_leaves_what_is_right() -> None:
    """A click on the table beside the saucer takes a leak away, and nothing else."""
    first = find(COFFEE, click((280, 90, True)))

    second = find(COFFEE, click((280, 90, True), (82, 130, False)))

    assert iou(second, CUP_AND_SAUCER) > 0.9
    np.testing.assert_array_equal(second[:, 200:], first[:, 200:])


def lies_on_a_side(mask: np.ndarray, box: Box) -> float:
    """Return the largest share of a drawn side, within 1 pixel, along which the mask ends."""
    inside = mask > INSIDE
    steps = [np.zeros(1)]
    for place, across in ((box.x0, True), (box.x1, True), (box.y0, False), (box.y1, False)):
        lines = inside[box.y0 : box.y1].T if across else inside[:, box.x0 : box.x1]
        if 2 <= place < len(lines) - 2:
            steps.append((lines[place - 2] != lines[place + 1]).astype(float))
    return float(max(step.mean() for step in steps))


@needs_weights
@pytest.mark.parametrize(
    ("image", "box"),
    [
        (ASTRONAUT, Box(110, 10, 310, 300)),  # through her arms
        (ASTRONAUT, Box(150, 60, 260, 200)),  # through her neck
        (CAT, Box(60, 40, 330, 200)),  # through the cheeks
        (COFFEE, Box(120, 60, 300, 300)),  # through the saucer
        (ROCKET, Box(290, 180, 355, 330)),  # through the rocket, above and below
    ],
    ids=["astronaut", "head", "cat", "coffee", "rocket"],
)
def test_a_box_through_an_object_is_no_straight_cut(image: np.ndarray, box: Box) -> None:
    """The mask ends near the drawn sides, at most 15 % of the long side farther, and hardly anywhere on them."""
    mask = find(image, Prompt(box=box))

    found = bbox(mask)
    assert found is not None
    margin = box.with_margin(0.15 * box.long_side + 3, whole_image(image))
    assert found.with_margin(0, margin) == found
    assert lies_on_a_side(mask, box) < 0.35


@needs_weights
def test_a_stroke_means_a_thing_of_its_size() -> None:
    """Along the patch it takes the patch, and across cup and saucer both; one click takes the whole astronaut."""
    patch = Stroke(points=[(145, 386), (195, 386)], radius_px=4)
    saucer = Stroke(points=[(140, 200), (270, 210), (420, 200)], radius_px=5)

    assert iou(find(ASTRONAUT, Prompt(strokes=(patch,))), PATCH) > 0.85
    assert iou(find(COFFEE, Prompt(strokes=(saucer,))), CUP_AND_SAUCER) > 0.9


@needs_weights
def test_a_painted_ring_means_what_it_surrounds() -> None:
    """Its centre of mass would be the coffee; the saucer's rim belongs, too."""
    ring = np.zeros(COFFEE.shape[:2], np.uint8)
    cv2.ellipse(ring, (278, 205), (180, 165), 0, 0, 360, 255, 12)

    assert iou(find(COFFEE, Prompt(guidance=ring)), CUP_AND_SAUCER) > 0.9


@needs_weights
def test_a_painted_part_is_not_taken_for_the_whole() -> None:
    """Paint over the patch means the patch."""
    assert iou(find(ASTRONAUT, Prompt(guidance=ellipse(ASTRONAUT, 172, 384, 42, 42))), PATCH) > 0.85


@needs_weights
def test_a_stroke_on_a_part_takes_the_part() -> None:
    """A click there takes the whole astronaut; the length of the stroke shows that the patch is meant."""
    stroke = Stroke(points=[(145, 380), (170, 390), (198, 384)], radius_px=4)

    assert iou(find(ASTRONAUT, Prompt(strokes=(stroke,))), PATCH) > 0.85


def test_strokes_are_kept() -> None:
    """Painted pixels are in the mask; crossed-out pixels are not."""
    lines = (
        Stroke(points=[(200, 150), (280, 200), (360, 150)], radius_px=5),
        Stroke(points=[(520, 100), (520, 380)], radius_px=5, positive=False),
    )

    mask = find(COFFEE, Prompt(strokes=lines))

    assert (mask[[150, 200, 150], [200, 280, 360]] > 127).all()
    assert not (mask[100:380, 520] > 127).any()


def test_strokes_that_erase_one_another_mean_nothing() -> None:
    """No positive pixel is left."""
    line = [(200.0, 150.0), (360.0, 150.0)]

    with pytest.raises(NothingFound):
        find(COFFEE, Prompt(strokes=(Stroke(points=line), Stroke(points=line, radius_px=20, positive=False))))


@needs_weights
def test_the_main_subject_is_found_by_itself() -> None:
    """The rocket, and not the towers."""
    mask = find(ROCKET, Prompt(auto=True))

    assert mask[250, 322] == 255
    assert not mask[:, :250].any()
    assert not mask[:, 400:].any()


@needs_weights
def test_a_box_round_everything_is_the_main_subject() -> None:
    """The user draws a box around the whole photo."""
    mask = find(COFFEE, Prompt(box=Box(0, 0, 600, 400)))

    assert iou(mask, CUP_AND_SAUCER) > 0.9


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(points=(Click(120, 90, positive=True),)),
        Prompt(box=Box(60, 30, 180, 150)),
        Prompt(box=Box(0, 0, 240, 180)),
        Prompt(strokes=(Stroke(points=[(100, 90), (140, 90)]),)),
        Prompt(auto=True),
    ],
    ids=["point", "box", "box round everything", "stroke", "auto"],
)
def test_without_weights_grabcut_finds_a_clear_object(prompt: Prompt) -> None:
    """The coarse method is a method."""
    picture, truth = ball()

    assert iou(find(picture, prompt, WITHOUT_WEIGHTS), truth) > 0.9


def test_two_hundred_clicks_are_answered() -> None:
    """Every click is kept, although they lie closer than their discs."""
    picture, truth = ball()
    places = np.random.default_rng(3).integers((0, 0), (240, 180), (200, 2)).tolist()
    clicks = tuple(Click(x, y, positive=bool(truth[y, x])) for x, y in places)

    mask = find(picture, Prompt(points=clicks))

    assert iou(mask, truth) > 0.95


def test_a_stroke_of_eighty_thousand_points_is_answered() -> None:
    """A pen may report its position for minutes."""
    picture, truth = ball()
    turns = np.linspace(0, 400, 80_000)
    points = np.column_stack((120 + 30 * np.cos(turns), 90 + 30 * np.sin(1.3 * turns))).tolist()
    stroke = Stroke.model_construct(points=points, radius_px=4.0, positive=True)

    mask = find(picture, Prompt(strokes=(stroke,)))

    assert iou(mask, truth) > 0.95


@needs_weights
def test_large_pictures_get_large_masks() -> None:
    """Work is done small, but the mask is as exact as the picture."""
    picture, truth = ball(2400, 1800)

    assert iou(find(picture, Prompt(auto=True)), truth) > 0.99


@pytest.mark.parametrize("shape", [(1, 1), (2, 3)])
@pytest.mark.parametrize("prompt", [Prompt(auto=True), Prompt(box=Box(0, 0, 1, 1)), click((0, 0, True))])
def test_specks_hold_nothing(shape: tuple[int, int], prompt: Prompt) -> None:
    """A picture too small for an object is an answer, not a crash."""
    plain = np.full((*shape, 3), 90, np.uint8)

    with pytest.raises(NothingFound, match="No masks found"):
        find(plain, prompt, WITHOUT_WEIGHTS)


@pytest.mark.parametrize("shape", [(1, 400), (400, 1)])
def test_a_line_of_pixels_gets_a_mask_of_its_size(shape: tuple[int, int]) -> None:
    """However thin the picture."""
    line = np.full((*shape, 3), 40, np.uint8)
    line.reshape(400, 3)[100:300] = (230, 60, 60)

    mask = find(line, click((shape[1] // 2, shape[0] // 2, True)), WITHOUT_WEIGHTS)

    assert mask.shape == shape
    assert mask.ravel()[200] > 127


@needs_weights
def test_a_negative_click_on_a_large_part_takes_it_away() -> None:
    """The saucer has the cup's colour, so an edit there finds no edge: the answer is computed again."""
    whole = find(COFFEE, click((300, 150, True)))

    cup = find(COFFEE, click((300, 150, True), (170, 300, False)))

    assert 0 < np.count_nonzero(cup > 127) < 0.6 * np.count_nonzero(whole > 127)
