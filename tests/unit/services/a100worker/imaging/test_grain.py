"""Fine texture for a fill that was made at a smaller scale."""

from __future__ import annotations

import cv2
import numpy as np

from services.a100worker.imaging.grain import add_grain
from tests.unit.services.a100worker.recorder import box_mask


def test_a_smooth_fill_gets_the_grain_of_its_surroundings() -> None:
    """Its contrast in the small comes near to theirs; enlarging alone would leave none."""
    random = np.random.default_rng(1)
    picture = np.clip(random.normal(120, 20, (240, 320, 3)), 0, 255).astype(np.uint8)
    fill = np.full((120, 160, 3), 120, np.uint8)

    result = add_grain(picture, fill, box_mask(120, 160, (50, 40, 90, 80)), np.zeros((120, 160), np.uint8), 1)

    inside = result[90:150, 110:170]
    assert 0.7 < inside.std() / picture.std() < 1.1


def test_a_shape_in_the_fill_stays_where_it_is() -> None:
    """Detail is added, nothing is moved."""
    picture = np.full((200, 200, 3), 100, np.uint8)
    fill = np.full((100, 100, 3), 100, np.uint8)
    fill[45:55, 45:55] = 220

    result = add_grain(picture, fill, box_mask(100, 100, (30, 30, 70, 70)), np.zeros((100, 100), np.uint8), 1)

    assert np.array_equal(result, cv2.resize(fill, (200, 200), interpolation=cv2.INTER_CUBIC))


def test_without_a_source_the_fill_is_only_enlarged() -> None:
    """Detail from pixels to avoid would be worse than none."""
    picture = np.full((60, 61, 3), 90, np.uint8)
    fill = np.full((30, 31, 3), 100, np.uint8)

    result = add_grain(picture, fill, box_mask(30, 31, (5, 5, 9, 9)), np.full((30, 31), 255, np.uint8), 1)

    assert np.array_equal(result, np.full((60, 61, 3), 100, np.uint8))


def test_the_same_seed_gives_the_same_grain() -> None:
    """Sources are drawn at random where there are many."""
    picture = np.random.default_rng(2).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    fill, hole = np.full((200, 200, 3), 120, np.uint8), box_mask(200, 200, (90, 90, 120, 120))

    results = [add_grain(picture, fill, hole, np.zeros((200, 200), np.uint8), seed) for seed in (5, 5, 6)]

    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])
