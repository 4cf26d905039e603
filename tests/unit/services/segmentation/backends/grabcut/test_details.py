"""A click on a small distinct object is distinguished from a click inside a large one."""

from __future__ import annotations

import numpy as np
import pytest

from services.segmentation.backend import Click
from services.segmentation.backends.grabcut.details import stands_out
from services.segmentation.backends.grabcut.scene import Scene
from tests.unit.services.segmentation.photos import LocalFeatures, ball, never_cancel


def scene(image: np.ndarray) -> Scene:
    """Return the scene of an image without a network."""
    return Scene(image, None, LocalFeatures(), never_cancel)


def badge() -> np.ndarray:
    """Return a ball of 40 pixels on a ground of 960."""
    image = np.random.default_rng(3).integers(90, 114, (720, 960, 3), np.uint8)
    image[340:380, 460:500] = ball(80, 80)[0][20:60, 20:60]
    return image


def test_a_small_thing_stands_out() -> None:
    """A ball on a large ground."""
    assert stands_out(scene(badge()), Click(480, 360, positive=True))


@pytest.mark.parametrize("place", [(100, 100), (959, 719), (480, 200)])
def test_a_place_on_a_large_thing_does_not(place: tuple[int, int]) -> None:
    """The ground looks the same all around, also in a corner and near the ball."""
    assert not stands_out(scene(badge()), Click(*place, positive=True))


def test_the_smallest_image_has_no_details() -> None:
    """One pixel has nothing around it, and no error."""
    assert stands_out(scene(np.zeros((1, 1, 3), np.uint8)), Click(0, 0, positive=True)) in {True, False}
