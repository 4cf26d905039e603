"""Filling holes smoothly, also where there is hardly an image."""

from __future__ import annotations

import numpy as np
import pytest

from services.a100worker.imaging.filling import fill_smoothly, fill_specks
from tests.unit.services.a100worker.recorder import noise


@pytest.mark.parametrize(("height", "width"), [(1, 688), (688, 1), (2, 300), (1, 2)])
def test_a_strip_is_filled_with_the_same_bytes_each_time(height: int, width: int) -> None:
    """OpenCV fills a row of pixels with uninitialised memory; here it is different each time."""
    image, mask = noise(height, width), np.zeros((height, width), np.uint8)
    mask[height // 2 :, width // 2 :] = 255
    fills = set()
    for number in range(20):
        litter = np.full((1 + number * 977, 7), number, np.uint8)
        fills.add(fill_smoothly(image, mask, np.zeros_like(mask)).tobytes())
        del litter

    assert len(fills) == 1


def test_nothing_to_fill_changes_nothing() -> None:
    """And takes no window."""
    image = noise(20, 30)

    fill_specks(image, np.zeros((20, 30), np.uint8))

    assert np.array_equal(image, noise(20, 30))
