"""A photo in the colours of a repainted copy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.a100worker.imaging.recolouring import recolour
from services.a100worker.imaging.registration import is_aligned
from tests.unit.services.a100worker.recorder import photo

COFFEE = photo("coffee")
WARM = np.clip(COFFEE * np.array([1.2, 1, 0.85]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_strength_reaches_from_nothing_to_all(strength: float) -> None:
    """Half of it lies half-way."""
    image, aligned = recolour(COFFEE, COFFEE, WARM, strength)

    assert aligned
    assert np.abs(image - (COFFEE + strength * (WARM.astype(float) - COFFEE))).max() <= 1


@pytest.mark.parametrize("scale", [0.4, 2.0])
def test_a_photo_painted_at_another_size_stays_sharp(scale: float) -> None:
    """It gets the change of colours, not the scaled pixels."""
    size = round(600 * scale), round(400 * scale)
    before, after = (
        np.asarray(cv2.resize(one, size, interpolation=cv2.INTER_AREA), np.uint8) for one in (COFFEE, WARM)
    )

    image, aligned = recolour(COFFEE, before, after, 1.0)

    assert aligned
    sharpness = [float(cv2.Laplacian(one, cv2.CV_32F).var()) for one in (image, WARM)]
    assert sharpness[0] > 0.8 * sharpness[1]
    assert np.abs(image.astype(int) - WARM).mean() < 3


def test_of_an_answer_that_moved_only_the_colours_are_used() -> None:
    """Laid over the photo it would be seen double."""
    moved = np.asarray(np.roll(WARM, (6, 9), axis=(0, 1)))

    image, aligned = recolour(COFFEE, COFFEE, moved, 1.0)

    assert not aligned
    assert is_aligned(COFFEE, image)
    assert np.abs(image.astype(int) - WARM).mean() < 4
