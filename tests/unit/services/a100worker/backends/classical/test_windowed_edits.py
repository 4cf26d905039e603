"""Whole edits in windows: the same bytes as on the whole image, over random images and masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.a100worker.backends.classical.insertion import insert
from services.a100worker.backends.classical.removal import remove
from services.a100worker.backends.patchmatch.filler import Filler
from services.a100worker.imaging.filling import fill_smoothly
from shared.errors import BadInput
from tests.unit.services.a100worker.imaging.test_windowed_work import masks, random_mask
from tests.unit.services.a100worker.imaging.whole_edits import insert_whole, remove_whole
from tests.unit.services.a100worker.recorder import Recorder, frozen, insertion, removal

if TYPE_CHECKING:
    from services.a100worker.cancel_flag import CancelFlag
    from shared.image_codec import Grey, Rgb

SAME_EDITS = 300


class Mixer(Filler):
    """Fills a hole with pixels that depend on every byte that it was given, in a moment."""

    def fill(self, image: Rgb, hole: Grey, avoid: Grey, seed: int, cancel_flag: CancelFlag) -> Rgb:
        """See Filler."""
        del seed, cancel_flag
        return mix(image, hole, avoid)


def mix(image: Rgb, hole: Grey, avoid: Grey) -> Rgb:
    """Return the image upside down in other colours."""
    key = int(image.sum(dtype=np.int64)) + 3 * int(hole.sum(dtype=np.int64)) + 7 * int(avoid.sum(dtype=np.int64))
    return np.asarray(image[::-1, ::-1] ^ np.uint8(key % 256), np.uint8)


def picture_for(mask: Grey, seed: int) -> Rgb:
    """Return an image of the mask's size with large shapes and grain."""
    random, (height, width) = np.random.default_rng(seed), mask.shape
    coarse = random.integers(0, 256, (1 + height // 16, 1 + width // 16, 3), dtype=np.uint8)
    large = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return frozen(np.asarray(large ^ random.integers(0, 8, (height, width, 3), dtype=np.uint8), np.uint8))


def test_a_removal_in_windows_is_that_on_the_whole_image() -> None:
    """Byte for byte, with holes at the border, islands, specks, and images one pixel wide."""
    for number, mask in enumerate(masks()[:SAME_EDITS]):
        image = picture_for(mask, number)
        saliency = random_mask(np.random.default_rng(number))
        seen = np.asarray(cv2.resize(saliency, mask.shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
        job = removal(image, frozen(mask), seed=number, fetch_saliency=lambda seen=seen: seen)

        for filler, search in ((Mixer(), mix), (None, fill_smoothly)):
            expected, region = remove_whole(job, search, salient=filler is not None)
            edit = remove(job, Recorder(), filler)

            assert np.array_equal(edit.image, expected), number
            assert edit.region is not None
            assert np.array_equal(edit.region, region), number


def test_an_insertion_in_windows_is_that_on_the_whole_image() -> None:
    """Byte for byte, with objects that overlap and shadows that leave the image."""
    random, done = np.random.default_rng(2), 0
    while done < SAME_EDITS:
        mask = frozen(random_mask(random))
        image = picture_for(mask, done)
        reference = picture_for(np.zeros(random.integers(8, 60, 2), np.uint8), done + 1)
        outline = np.zeros(reference.shape[:2], np.uint8)
        outline[2:-2, 3:-3] = 255
        job = insertion(image, mask, reference, reference_mask=outline if done % 3 else None)
        try:
            edit = insert(job, Recorder())
        except BadInput:
            continue
        expected, region = insert_whole(job)

        assert np.array_equal(edit.image, expected), done
        assert edit.region is not None
        assert np.array_equal(edit.region, region), done
        done += 1


@pytest.mark.parametrize(("height", "width"), [(1, 16_384), (3, 5000), (16_384, 1)])
def test_long_images_have_the_same_bytes(height: int, width: int) -> None:
    """They are filled at a smaller scale and get grain."""
    mask = np.zeros((height, width), np.uint8)
    rows, columns = (slice(side // 3, side // 3 + max(1, side // 5)) for side in (height, width))
    mask[rows, columns] = 255
    mask[0, -1] = mask[-1, 0] = 255
    job = removal(picture_for(mask, 1), frozen(mask))

    expected, region = remove_whole(job, mix)
    edit = remove(job, Recorder(), Mixer())

    assert np.array_equal(edit.image, expected)
    assert edit.region is not None
    assert np.array_equal(edit.region, region)


def test_a_carried_horizon_has_the_same_bytes() -> None:
    """The line is looked for in the hole's window alone."""
    image = np.full((300, 400, 3), (90, 140, 220), np.uint8)
    image[150:] = (30, 60, 70)
    mask = np.zeros((300, 400), np.uint8)
    mask[120:190, 150:230] = 255
    job = removal(frozen(image), frozen(mask))

    expected, _ = remove_whole(job, fill_smoothly)
    edit = remove(job, Recorder(), None)

    assert np.array_equal(edit.image, expected)
    assert np.array_equal(edit.image[147, 190], image[0, 0])
    assert np.array_equal(edit.image[153, 190], image[-1, 0])


def test_sixty_four_islands_have_the_same_bytes() -> None:
    """Parts and specks, some of them neighbours of neighbours."""
    mask = np.zeros((500, 700), np.uint8)
    random = np.random.default_rng(9)
    for left, top in zip(random.integers(0, 690, 64), random.integers(0, 490, 64), strict=True):
        size = int(random.choice([1, 2, 8, 40]))
        mask[top : top + size, left : left + size] = 255
    job = removal(picture_for(mask, 1), frozen(mask))

    for filler, search in ((Mixer(), mix), (None, fill_smoothly)):
        expected, region = remove_whole(job, search)
        edit = remove(job, Recorder(), filler)

        assert np.array_equal(edit.image, expected)
        assert edit.region is not None
        assert np.array_equal(edit.region, region)
