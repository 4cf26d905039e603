"""Finding the object of a reference, with every kind of mask that clients send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.a100worker.imaging.reference import align_mask, object_mask
from tests.unit.services.a100worker.recorder import box_mask, photo

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb


def overlap(first: Grey, second: Grey) -> float:
    return float(np.count_nonzero((first > 0) & (second > 0)) / np.count_nonzero((first > 0) | (second > 0)))


def ellipse(height: int, width: int, centre: tuple[int, int], axes: tuple[int, int]) -> Grey:
    return np.asarray(cv2.ellipse(np.zeros((height, width), np.uint8), centre, axes, 20, 0, 360, 255, -1), np.uint8)


def extract(picture: Rgb, mask: Grey) -> tuple[Rgb, Grey]:
    """Crop to the mask's box and fit it into a white square, as the extraction does. Also return the object's place."""
    x, y, width, height = cv2.boundingRect(mask)
    side = 512
    scale = min(side / width, side / height)
    size = (int(width * scale), int(height * scale))
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    square, place = np.full((side, side, 3), 255, np.uint8), np.zeros((side, side), np.uint8)
    inside = cv2.resize(mask[y : y + height, x : x + width], size) > 127
    pixels = cv2.resize(picture[y : y + height, x : x + width], size)
    square[top : top + size[1], left : left + size[0]][inside] = pixels[inside]
    place[top : top + size[1], left : left + size[0]][inside] = 255
    return square, place


def nothing() -> None:
    return None


def test_a_mask_in_the_frame_of_an_extracted_object_s_origin_is_moved_onto_it() -> None:
    """The coordinate trap: the square is a crop, the mask still belongs to the whole picture."""
    mask = ellipse(400, 600, (400, 250), (120, 60))
    square, place = extract(photo("coffee"), mask)

    found = align_mask(square, mask)

    assert overlap(found, place) > 0.97


def test_a_mask_that_fits_its_square_photo_is_left_where_it_is() -> None:
    """A square photo is no extraction, though most of it is not white either."""
    mask = ellipse(512, 512, (400, 150), (40, 120))

    found = align_mask(photo("astronaut"), mask)

    assert np.array_equal(found, mask)


def test_a_mask_of_a_part_of_an_extracted_object_is_left_where_it_is() -> None:
    """The user may also have drawn on the extracted square itself."""
    square, _ = extract(photo("coffee"), ellipse(400, 600, (400, 250), (120, 60)))
    mask = box_mask(512, 512, (200, 200, 230, 330))

    found = align_mask(square, mask)

    assert np.array_equal(found, mask)


@pytest.mark.parametrize("size", [(400, 600), (200, 300), (1200, 1800)])
def test_a_mask_of_another_size_is_stretched_to_the_reference(size: tuple[int, int]) -> None:
    """Sent at half or three times the size, it marks the same place."""
    mask = cv2.resize(ellipse(400, 600, (400, 250), (120, 60)), size[::-1], interpolation=cv2.INTER_NEAREST)

    found = align_mask(photo("coffee"), np.asarray(mask, np.uint8))

    assert overlap(found, ellipse(400, 600, (400, 250), (120, 60))) > 0.95


def test_an_all_black_mask_counts_as_none() -> None:
    """The object on its white background is found without it."""
    square, place = extract(photo("coffee"), ellipse(400, 600, (400, 250), (120, 60)))

    found = object_mask(square, np.zeros((400, 600), np.uint8), nothing)

    assert found is not None
    assert overlap(found, place) > 0.97


def test_white_inside_the_object_belongs_to_it() -> None:
    """Only white that is connected to the rim is background."""
    square = np.full((100, 100, 3), 255, np.uint8)
    square[20:80, 20:80] = (10, 90, 20)
    square[40:60, 40:60] = 255

    found = object_mask(square, None, nothing)

    assert found is not None
    assert np.array_equal(found, box_mask(100, 100, (20, 20, 80, 80)))


def test_without_mask_and_white_background_the_object_is_the_salient_part() -> None:
    """The map is cut at one half, and its specks are dropped."""
    saliency = ellipse(427, 640, (320, 250), (20, 120))
    saliency[5:8, 5:8] = 255

    found = object_mask(photo("rocket"), None, lambda: saliency)

    assert found is not None
    assert found[250, 320] == 255
    assert found[6, 6] == 0


def test_without_any_hint_there_is_no_object() -> None:
    """No mask, no white background, no saliency."""
    assert object_mask(photo("rocket"), None, nothing) is None
