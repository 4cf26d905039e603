"""The choice of the holes that the network fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.a100worker.backends.lama.choice import crossed_share, suits_network
from services.a100worker.imaging import holes
from tests.unit.services.a100worker.recorder import box_mask, noise

if TYPE_CHECKING:
    from services.a100worker.imaging.holes import Hole
    from shared.image_codec import Rgb

SIDE = 400


def hole(*box: int) -> Hole:
    """Return the hole of a box of left, top, right, bottom in a picture of 400 x 400."""
    left, top, right, bottom = box
    return holes.split(box_mask(SIDE, SIDE, (left, top, right, bottom)), None)[0][0]


def rails(period: int, *, down: bool) -> Rgb:
    """Return bright and dark bands, half a period each, with a little grain."""
    bands = np.where(np.arange(SIDE) % period < period // 2, 60, 180).astype(np.uint8)
    lines = np.tile(bands, (SIDE, 1))
    return np.stack([lines.T if down else lines] * 3, axis=-1) + noise(SIDE, SIDE) // 32


@pytest.mark.parametrize("down", [False, True])
def test_lines_that_run_into_the_hole_are_seen(down: bool) -> None:  # noqa: FBT001
    """In any direction: PatchMatch would end them at the rim."""
    assert suits_network(rails(40, down=down), hole(170, 170, 230, 230))


@pytest.mark.parametrize("image", [noise(SIDE, SIDE), np.full((SIDE, SIDE, 3), 90, np.uint8)], ids=["noise", "plain"])
def test_texture_without_lines_is_for_patchmatch(image: Rgb) -> None:
    """It copies grass and sand better than any network."""
    assert crossed_share(image, hole(170, 170, 230, 230)) < 0.05
    assert not suits_network(image, hole(170, 170, 230, 230))


def test_an_edge_around_the_hole_is_no_line_into_it() -> None:
    """It is the removed object's own outline."""
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    image[164:236, 164:236] = 200

    assert crossed_share(image, hole(170, 170, 230, 230)) < 0.05


def test_a_large_hole_is_for_the_network() -> None:
    """Above 4 % of the picture: 80 x 80 of 400 x 400 is 4 %."""
    assert not suits_network(noise(SIDE, SIDE), hole(160, 160, 240, 240))
    assert suits_network(noise(SIDE, SIDE), hole(160, 160, 241, 241))


@pytest.mark.parametrize("box", [(0, 0, 400, 399), (0, 0, 2, 400), (399, 399, 400, 400)])
def test_holes_without_a_rim_are_measured_too(box: tuple[int, ...]) -> None:
    """At the image's border and over nearly all of it."""
    mask = box_mask(SIDE, SIDE, (box[0], box[1], box[2], box[3]))
    parts, _ = holes.split(mask, None)

    assert all(0 <= crossed_share(noise(SIDE, SIDE), part) <= 1 for part in parts)
