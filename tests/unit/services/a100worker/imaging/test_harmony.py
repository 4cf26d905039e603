"""Colours and shadow of an inserted object."""

from __future__ import annotations

import numpy as np

from services.a100worker.imaging.cutout import Cutout
from services.a100worker.imaging.harmony import compose, match_tone
from services.a100worker.imaging.placement import Box
from tests.unit.services.a100worker.recorder import frozen


def plain(colour: tuple[int, int, int], height: int, width: int) -> np.ndarray:
    return frozen(np.full((height, width, 3), colour, np.uint8))


def block(colour: tuple[float, float, float], height: int, width: int) -> Cutout:
    pixels = np.full((height, width, 3), colour, np.float32)
    return Cutout(pixels, np.ones((height, width), np.float32))


def composed(scene: np.ndarray, thing: Cutout, box: Box) -> tuple[np.ndarray, np.ndarray]:
    picture, touched = scene.copy(), np.zeros(scene.shape[:2], np.uint8)
    compose(picture, touched, thing.resize(box.width, box.height), None, box)
    return picture, touched


def test_an_object_covers_its_box() -> None:
    """An opaque object shows its own colour there."""
    box = Box(60, 50, 80, 60)

    picture, _ = composed(plain((200, 200, 200), 200, 200), block((1, 0, 0), 60, 80), box)

    assert np.all(picture[box.slices] == (255, 0, 0))


def test_an_object_throws_a_shadow_below_and_not_above() -> None:
    """The ground under its foot is darker than the rest."""
    picture, _ = composed(plain((200, 200, 200), 200, 200), block((1, 0, 0), 60, 80), Box(60, 50, 80, 60))

    assert picture[111, 100, 1] < 180
    assert np.all(picture[:49] == 200)


def test_nothing_changes_outside_the_region() -> None:
    """Where the region is 0, every byte is that of the scene."""
    scene = plain((200, 190, 180), 200, 200)

    picture, touched = composed(scene, block((0, 0, 1), 60, 80), Box(60, 140, 80, 60))

    assert np.array_equal(picture[touched == 0], scene[touched == 0])
    assert 0 < np.count_nonzero(touched) < touched.size


def test_a_grey_object_takes_a_tint_from_a_warm_scene() -> None:
    """Part of the way, so that it keeps its own colour."""
    thing = block((0.5, 0.5, 0.5), 40, 40)
    tone = match_tone(thing, plain((200, 140, 60), 200, 200), Box(80, 80, 40, 40))

    assert tone is not None
    red, _, blue = tone.apply(thing.colour)[20, 20]
    assert 0.05 < red - blue < 0.4


def test_a_dark_object_takes_less_of_the_tint_than_a_light_one() -> None:
    """A dark coat in the light of a sunset stays dark and neutral."""
    scene = plain((220, 150, 80), 200, 200)
    tints = []
    for grey in (0.06, 0.5):
        thing = block((grey, grey, grey), 60, 60)
        tone = match_tone(thing, scene, Box(70, 70, 60, 60))
        assert tone is not None
        red, _, blue = tone.apply(thing.colour)[30, 30]
        tints.append(red - blue)

    dark, light = tints
    assert 0 < dark < light / 2


def test_an_object_that_is_nowhere_solid_keeps_its_colours() -> None:
    """There is nothing to measure."""
    ghost = Cutout(np.full((10, 10, 3), 0.5, np.float32), np.full((10, 10), 0.3, np.float32))

    assert match_tone(ghost, plain((200, 140, 60), 50, 50), Box(20, 20, 10, 10)) is None


def test_an_object_as_large_as_the_scene_keeps_its_colours() -> None:
    """It has no surroundings."""
    thing = block((0.5, 0.5, 0.5), 50, 50)

    assert match_tone(thing, plain((200, 140, 60), 50, 50), Box(0, 0, 50, 50)) is None
