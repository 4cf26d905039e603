"""What the model is shown: which pictures, in which order, and what may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.a100worker.backends.qwen import conditions
from services.a100worker.backends.qwen.frames import Frame
from tests.unit.services.a100worker.recorder import balance, box_mask, frozen, insertion, photo, removal

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb

CAT = frozen(np.ascontiguousarray(photo("cat")[:224, :320]))
MASK = box_mask(224, 320, (100, 60, 180, 140))
FRAME = Frame.of(CAT, 1024 * 1024)


class Filler:
    """Fills holes with red, and remembers them."""

    hole: Grey

    def __call__(self, picture: Rgb, hole: Grey, saliency: Grey | None) -> Rgb:
        """See Fill."""
        del saliency
        self.hole = hole
        return np.where(hole[..., None] > 0, np.array([255, 0, 0], np.uint8), picture)


def test_a_removal_sees_the_background_the_mask_and_a_fill() -> None:
    """In this order; the hole is black, the mask as it was drawn, the fill a little wider."""
    fill = Filler()

    seen = conditions.removal(removal(CAT, MASK), FRAME, fill)

    background, mask, filled = seen.pictures
    inside = MASK > 0
    assert not background[inside].any()
    assert np.array_equal(background[~inside], CAT[~inside])
    assert np.array_equal(mask, np.repeat(MASK[..., None], 3, axis=2))
    assert (filled[inside] == (255, 0, 0)).all()
    assert np.count_nonzero(fill.hole) > np.count_nonzero(MASK)
    assert seen.region is not None
    assert (seen.region[inside] == 255).all()
    assert seen.region[0, 0] == 0


@pytest.mark.parametrize(("tool", "reach"), [("brush", 35), ("box", 3), (None, 3)])
def test_what_was_brushed_by_hand_is_filled_farther_out(tool: str | None, reach: int) -> None:
    """The adapter was trained with fills that reach 35 px beyond a brushed mask."""
    fill = Filler()

    conditions.removal(removal(CAT, MASK, mask_tool=tool), FRAME, fill)

    left, _, width, _ = cv2.boundingRect(fill.hole)
    assert (100 - left, left + width - 180) == (reach, reach)


def test_an_insertion_sees_the_reference_the_place_and_the_background() -> None:
    """Without a mask of the reference the place is what was marked, and a shadow at its foot."""
    seen = conditions.insertion(insertion(CAT, MASK, photo("coffee")), FRAME)

    reference, place, background = seen.pictures
    assert reference.shape == place.shape == background.shape == CAT.shape
    assert abs(reference.mean() - photo("coffee").mean()) < 3
    assert (place[MASK > 0] == 255).all()
    assert np.count_nonzero(place[141:, :, 0]) > np.count_nonzero(place[:59, :, 0])
    assert not background[MASK > 0].any()
    below, above = (slice(142, 150), slice(110, 170)), (slice(40, 50), slice(110, 170))
    assert background[below].mean() < CAT[below].mean()
    assert np.array_equal(background[above], CAT[above])


def test_an_insertion_with_a_mask_of_the_reference_has_its_outline() -> None:
    """At its own proportions, on the floor of the marked region."""
    outline = np.zeros((200, 300), np.uint8)
    cv2.circle(outline, (60, 60), 30, 255, -1)
    reference = np.ascontiguousarray(photo("coffee")[:200, :300])

    seen = conditions.insertion(insertion(CAT, MASK, reference, reference_mask=outline), FRAME)

    labelled = dict(seen.labelled)
    assert list(labelled) == [
        "original",
        "mask_A",
        "masked_R",
        "reference_image",
        "positioned_mask_R",
        "positioned_mask",
    ]
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(labelled["positioned_mask"][..., 0]))
    assert (left, top, width, height) == (100, 60, 80, 80)
    assert labelled["positioned_mask"][62, 102, 0] == 0  # a circle has no corners
    assert not seen.pictures[2][100, 140].any()


def test_an_all_black_mask_of_the_reference_is_none() -> None:
    """Clients send one after the eraser was used."""
    black = np.zeros((50, 50), np.uint8)

    seen = conditions.insertion(insertion(CAT, MASK, photo("coffee"), reference_mask=black), FRAME)

    assert dict(seen.labelled).keys() == {"ref_img", "mask", "masked_bg", "positioned_mask"}


def test_a_white_balance_sees_the_picture_and_its_edges() -> None:
    """White on black, and everything may change."""
    seen = conditions.white_balance(balance(CAT), FRAME)

    picture, edges = seen.pictures
    assert seen.region is None
    assert np.array_equal(picture, CAT)
    assert set(np.unique(edges)) == {0, 255}
    assert 0.01 < (edges > 0).mean() < 0.4


def test_edges_are_where_a_picture_has_them() -> None:
    """A square gives its outline, a plain picture nothing."""
    plain = np.full((96, 96, 3), 90, np.uint8)
    square = plain.copy()
    square[30:60, 30:60] = 220

    assert not conditions.canny(plain).any()
    assert cv2.boundingRect(conditions.canny(square))[2:] == pytest.approx((30, 30), abs=3)
