"""An object is composed in bands, with the bytes of one piece, whatever its size and place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.a100worker.imaging.contact_shadow import contact_shadow
from services.a100worker.imaging.cutout import Cutout, ScaledCutout
from services.a100worker.imaging.enlarging import Enlargement
from services.a100worker.imaging.harmony import compose, match_tone
from services.a100worker.imaging.placement import Box
from tests.unit.services.a100worker.imaging.whole_edits import compose_whole
from tests.unit.services.a100worker.recorder import frozen

CASES = 300
ONE_BAND = 10**9


def random_case(random: np.random.Generator) -> tuple[np.ndarray, Cutout, Box]:
    """Return a scene, an object of another size, and its box: often at the border, sometimes over all of the scene."""
    height, width = (int(side) for side in random.integers(8, 150, 2))
    scene = frozen(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    box_height, box_width = (int(random.integers(4, side + 1)) for side in (height, width))
    if random.random() < 0.1:
        box_height, box_width = height, width
    box = Box(
        int(random.choice([0, (width - box_width) // 2, width - box_width])),
        int(random.choice([0, (height - box_height) // 2, height - box_height])),
        box_width,
        box_height,
    )
    high, wide = (int(side) for side in random.integers(2, 120, 2))
    colour = cv2.GaussianBlur(random.random((high, wide, 3)).astype(np.float32), (0, 0), 2)
    alpha = np.clip(cv2.GaussianBlur(random.random((high, wide)).astype(np.float32), (0, 0), 3) * 6 - 2, 0, 1)
    return scene, Cutout(np.asarray(colour), np.asarray(alpha, np.float32)), box


def composed(scene: np.ndarray, thing: Cutout, box: Box, band_pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image, region, placed = scene.copy(), np.zeros(scene.shape[:2], np.uint8), np.zeros(scene.shape[:2], np.uint8)
    copy = thing.resize(box.width, box.height)
    compose(image, region, copy, match_tone(copy.sample, scene, box), box, placed, band_pixels=band_pixels)
    return image, region, placed


def test_bands_have_the_bytes_of_one_piece() -> None:
    """Image, region and the object's own opacity, in bands of one row and of some."""
    random = np.random.default_rng(21)
    for _ in range(CASES):
        scene, thing, box = random_case(random)
        whole = composed(scene, thing, box, ONE_BAND)

        for band_pixels in (1, 1500):
            parts = composed(scene, thing, box, band_pixels)
            assert all(np.array_equal(part, expected) for part, expected in zip(parts, whole, strict=True))


def test_the_picture_is_that_of_the_whole_computation() -> None:
    """Byte for byte."""
    random = np.random.default_rng(22)
    for _ in range(CASES):
        scene, thing, box = random_case(random)

        image, region, _ = composed(scene, thing, box, 1500)

        expected, expected_region = compose_whole(scene, scene, thing, box)
        assert np.array_equal(region, expected_region)
        assert np.array_equal(image, expected)


def test_a_large_object_is_enlarged_in_bands_too() -> None:
    """With other roundings than in one piece, and colours that are measured before it is enlarged."""
    random = np.random.default_rng(23)
    for _ in range(CASES // 3):
        _, thing, box = random_case(random)
        width, height = box.width + thing.alpha.shape[1], box.height + thing.alpha.shape[0]
        whole = ScaledCutout(thing, width, height).read(0, height)

        banded = ScaledCutout(thing, width, height, whole_px=0)

        parts = [banded.read(top, min(top + 7, height)) for top in range(0, height, 7)]
        colour = np.concatenate([part.colour for part in parts])
        assert np.abs(np.concatenate([part.alpha for part in parts]) - whole.alpha).max() < 1e-5
        assert np.abs((colour - whole.colour) * whole.alpha[..., None]).max() < 1e-4
        assert banded.sample is thing


@pytest.mark.parametrize(
    ("size", "to"), [((1, 1), (5, 9)), ((7, 3), (7, 3)), ((40, 30), (173, 120)), ((2, 60), (61, 60))]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_enlargement_is_that_of_opencv(size: tuple[int, int], to: tuple[int, int], channels: int) -> None:
    """The two differ by a few millionths, and rows are the same as in one piece."""
    source = np.random.default_rng(5).random((size[1], size[0], channels)).astype(np.float32)
    source = source[..., 0] if channels == 1 else source
    enlarged = Enlargement(source, *to)

    whole = enlarged.read(0, to[1])

    assert np.abs(whole - np.asarray(cv2.resize(source, to, interpolation=cv2.INTER_CUBIC))).max() < 1e-5
    assert all(np.array_equal(enlarged.read(row, row + 1)[0], whole[row]) for row in range(to[1]))


def test_a_large_shadow_looks_like_one_of_full_size() -> None:
    """It is blurred at a smaller scale, so that its time does not grow with the object."""
    side = 700
    alpha, box = np.zeros((900, 900), np.float32), Box(100, 100, side, side)
    cv2.circle(alpha, (450, 450), side // 2, 1.0, -1)
    foot = alpha.copy()
    foot[: 100 + side - round(0.2 * side)] = 0
    light = np.ones_like(foot)
    for across, down, strength in ((0.02, 0.008, 0.42), (0.07, 0.03, 0.22)):
        dropped = cv2.warpAffine(foot, np.array([[1, 0, 0], [0, 1, down * side]], np.float32), (900, 900))
        light *= 1 - strength * np.asarray(cv2.GaussianBlur(dropped, (0, 0), sigmaX=across * side, sigmaY=down * side))

    assert np.abs(contact_shadow(alpha, box) - (1 - light)).max() < 0.03
