"""The holes of a removal."""

from __future__ import annotations

import numpy as np
import pytest

from services.a100worker.imaging.holes import feather, grow, split
from shared.errors import BadInput
from tests.unit.services.a100worker.recorder import box_mask


def test_a_mask_grows_by_a_little_over_one_percent_of_the_long_side() -> None:
    """12 px at 1000."""
    hole = grow(box_mask(500, 1000, (400, 200, 500, 300)))

    assert hole[250, 388] == 255
    assert hole[250, 387] == 0


def test_an_exact_mask_does_not_grow() -> None:
    """Its weights are those of the mask, without a rim."""
    mask = box_mask(500, 1000, (400, 200, 500, 300))

    hole = grow(mask, by=0.0)

    assert np.array_equal(hole, mask)
    assert np.array_equal(feather(hole, mask), mask)


def test_an_empty_mask_is_bad_input() -> None:
    """There is nothing to remove."""
    with pytest.raises(BadInput, match="nothing to remove"):
        grow(np.zeros((50, 50), np.uint8))


def test_a_full_mask_is_bad_input() -> None:
    """There is nothing to fill it from."""
    with pytest.raises(BadInput, match="whole image"):
        grow(np.full((50, 50), 255, np.uint8))


def test_a_mask_that_would_grow_over_everything_stays_as_it_is() -> None:
    """The last known pixels are kept as a source."""
    mask = np.full((8, 8), 255, np.uint8)
    mask[0, 0] = 0

    assert np.array_equal(grow(mask), mask)


def test_parts_come_largest_first_and_specks_apart() -> None:
    """Each part in a window of its own."""
    hole = box_mask(400, 400, (10, 10, 40, 40), (200, 200, 300, 320), (390, 390, 395, 395))

    parts, specks = split(hole, None)

    assert [int(np.count_nonzero(part.mask)) for part in parts] == [12_000, 900]
    assert np.array_equal(specks, box_mask(400, 400, (390, 390, 395, 395)))


def test_a_hole_is_not_filled_from_another_hole() -> None:
    """Both of them are removed, so neither is copied."""
    hole = box_mask(400, 400, (100, 100, 150, 150), (170, 100, 210, 140))

    (part, _), _ = split(hole, None)

    window = part.window
    assert np.array_equal(part.avoid, box_mask(400, 400, (170, 100, 210, 140))[window.slices])


def test_a_hole_in_the_background_takes_nothing_from_salient_pixels() -> None:
    """No faces in the wall."""
    person = box_mask(400, 400, (220, 100, 300, 400))

    (part,), _ = split(box_mask(400, 400, (100, 100, 150, 150)), person)

    assert part.avoid[part.mask > 0].max() == 0
    assert np.all(part.avoid[person[part.window.slices] > 0] == 255)


def test_a_hole_on_an_object_takes_nothing_from_the_background() -> None:
    """No wall in the jacket."""
    person = box_mask(400, 400, (80, 80, 350, 400))

    (part,), _ = split(box_mask(400, 400, (100, 100, 150, 150)), person)

    background = person[part.window.slices] == 0
    assert background.any()
    assert np.all(part.avoid[background] == 255)


def test_a_hole_across_an_outline_may_take_from_both_sides() -> None:
    """Either side may be the right one."""
    person = box_mask(400, 400, (125, 0, 400, 400))

    (part,), _ = split(box_mask(400, 400, (100, 100, 150, 150)), person)

    assert not part.avoid.any()


def test_a_guard_that_leaves_no_source_is_dropped() -> None:
    """Better a wrong source than none."""
    everything_else = ~box_mask(400, 400, (90, 90, 160, 160))

    (part,), _ = split(box_mask(400, 400, (100, 100, 150, 150)), everything_else)

    assert not part.avoid.any()


def test_the_rim_of_a_hole_is_soft_and_the_mask_itself_is_not() -> None:
    """The feather lies in the grown rim."""
    mask = box_mask(100, 100, (40, 40, 60, 60))
    hole = grow(mask)

    region = feather(hole, mask)

    assert np.all(region[mask > 0] == 255)
    assert np.all(region[hole == 0] == 0)
    assert 0 < region[hole > 0].min() < 255


def test_a_hole_at_the_border_is_not_soft_there() -> None:
    """The picture's border is no seam."""
    mask = box_mask(100, 100, (0, 40, 30, 60))

    assert np.all(feather(grow(mask), mask)[40:60, 0] == 255)
