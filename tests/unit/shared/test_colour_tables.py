"""Colour tables: the same bytes as a white balance of the whole image, from a small copy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.imageutils.white_balance import auto_table, balance_auto, balance_manual
from shared.colour_tables import SMALL_SIDE_PX, SRGB_TO_LINEAR, apply_table, shrink


def image_of(height: int, width: int, seed: int) -> np.ndarray:
    """Return a warm image with large shapes, grain, and clipped highlights in half of the cases."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 300 if seed % 2 else 200, (2 + height // 40, 2 + width // 40, 3)).clip(0, 255)
    large = cv2.resize(coarse.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    warm = large * np.array([1.0, 0.85, 0.6]) + random.normal(0, 3, (height, width, 1))
    return np.asarray(warm.clip(0, 255), np.uint8)


def apply_whole(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the image by the table, with the highlights of all pixels restored at once."""
    balanced = np.asarray(cv2.LUT(image, table[None]))
    share = np.rint(255 * ((SRGB_TO_LINEAR - 0.8) / 0.2).clip(0, 1)).astype(np.uint8)
    brightest = balanced.max(axis=2)
    for channel in range(3):
        floor = cv2.multiply(brightest, share[image[..., channel]], scale=1 / 255)
        balanced[..., channel] = np.maximum(balanced[..., channel], floor)
    return balanced


@pytest.mark.parametrize("seed", range(24))
def test_a_table_of_a_small_copy_balances_the_whole_image(seed: int) -> None:
    """Byte for byte, at any size, in any number of bands."""
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 900, 2).tolist()
    image = image_of(height, width, seed)

    table = auto_table(shrink(image), 0.8)

    assert np.array_equal(table, auto_table(image, 0.8))
    assert np.array_equal(apply_table(image, table), apply_whole(image, table))
    assert np.array_equal(apply_table(image, table), balance_auto(image, 0.8))


def test_a_balance_of_nothing_changes_no_byte() -> None:
    """Also where highlights are clipped."""
    image = image_of(300, 200, 1)

    assert np.array_equal(balance_manual(image, 0, 0), image)
    assert np.array_equal(apply_table(image, np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)), image)


def test_a_small_copy_has_the_image_s_proportions() -> None:
    """A small image is its own copy."""
    small = image_of(50, SMALL_SIDE_PX, 1)

    assert shrink(small) is small
    assert shrink(image_of(300, 600, 1)).shape == (192, SMALL_SIDE_PX, 3)
    assert shrink(image_of(1, 600, 1)).shape == (1, SMALL_SIDE_PX, 3)
