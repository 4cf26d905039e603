"""Cutting an object out of its picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.a100worker.imaging.cutout import cut_out, cut_whole
from tests.unit.services.a100worker.recorder import box_mask, photo


def test_a_cut_out_is_cropped_to_its_object() -> None:
    """Opaque in the middle, and no larger than the object and its soft edge."""
    picture = np.full((200, 300, 3), (20, 40, 200), np.uint8)
    picture[50:150, 100:220] = (220, 30, 30)

    thing = cut_out(picture, box_mask(200, 300, (100, 50, 220, 150)))

    assert thing.alpha.shape == thing.colour.shape[:2]
    assert 100 <= thing.alpha.shape[0] <= 106
    assert 120 <= thing.alpha.shape[1] <= 126
    assert thing.alpha[50, 60] == 1


def test_the_old_background_does_not_shine_through_the_edge() -> None:
    """Blue is mixed into the blurred edge of a red square; hardly any of it is left in the colours."""
    picture = np.full((600, 600, 3), (20, 40, 240), np.uint8)
    picture[100:500, 100:500] = (220, 30, 30)
    blurred = np.asarray(cv2.GaussianBlur(picture, (0, 0), 2), np.uint8)

    thing = cut_out(blurred, box_mask(600, 600, (100, 100, 500, 500)))

    left = int(np.argmax(thing.alpha[200] > 0.5))
    assert thing.colour[200, left, 2] < 0.3


def test_a_large_object_is_cut_out_at_no_more_than_1024_px() -> None:
    """Larger objects are scaled down later anyway."""
    picture = np.zeros((1500, 2500, 3), np.uint8)

    thing = cut_out(picture, box_mask(1500, 2500, (100, 100, 2400, 1400)))

    assert max(thing.alpha.shape) <= 1024


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (451, 300), (900, 600)])
def test_a_resized_cut_out_has_the_size_asked_for(size: tuple[int, int]) -> None:
    """Both layers, and all values between 0 and 1."""
    thing = cut_out(photo("cat"), box_mask(300, 451, (50, 20, 300, 280))).resize(*size).read(0, size[1])

    assert thing.alpha.shape == size[::-1]
    assert thing.colour.shape == (*size[::-1], 3)
    assert thing.colour.min() >= 0
    assert thing.colour.max() <= 1
    assert thing.alpha.min() >= 0
    assert thing.alpha.max() <= 1


def test_a_large_whole_picture_is_taken_at_no_more_than_2048_px() -> None:
    """One of 64 megapixels would take gigabytes; its colours stay."""
    thing = cut_whole(np.full((1500, 3000, 3), (51, 102, 204), np.uint8))

    assert thing.alpha.shape == (1024, 2048)
    assert np.allclose(thing.colour[512, 1024], [0.2, 0.4, 0.8])


def test_a_whole_picture_fades_at_its_rim() -> None:
    """From nearly nothing at the corner to all in the middle."""
    thing = cut_whole(photo("cat"))

    assert thing.alpha[0, 0] < 0.05
    assert thing.alpha[150, 225] == 1


def half_plane(height: int, width: int) -> np.ndarray:
    """Mark an object that stands on the lower side of its image and is cut there."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 :, width // 4 : 3 * width // 4] = 255
    return mask


def test_an_object_fades_where_the_frame_of_its_image_cuts_it() -> None:
    """A bust ends softly below, and is solid elsewhere."""
    photo = np.full((400, 400, 3), 90, np.uint8)

    thing = cut_out(photo, half_plane(400, 400))

    middle = thing.alpha[:, thing.alpha.shape[1] // 2]
    assert middle[-1] < 0.15
    assert (np.diff(middle[-12:]) <= 0).all()
    assert middle[10:-20].min() > 0.99


def test_an_object_that_fits_its_frame_is_not_faded() -> None:
    """An extraction reaches the upper and the lower side, because it was fitted between them."""
    photo = np.full((400, 400, 3), 90, np.uint8)
    mask = half_plane(400, 400)
    mask[:100, 150:250] = 255

    thing = cut_out(photo, mask)

    assert thing.alpha[[2, -3], thing.alpha.shape[1] // 2].min() > 0.99


def test_a_mark_over_the_whole_image_fades_on_all_sides() -> None:
    """As an image without a mark does."""
    photo = np.full((300, 400, 3), 90, np.uint8)

    thing = cut_out(photo, np.full((300, 400), 255, np.uint8))

    assert max(thing.alpha[0].max(), thing.alpha[-1].max(), thing.alpha[:, 0].max(), thing.alpha[:, -1].max()) < 0.15
