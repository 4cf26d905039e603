"""An object that is cut out at full size: where it stood, without its background, tile by tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.imageutils.cut_out import cut_out_in_place
from services.imageutils.extract import cut_out_object
from shared.errors import BadInput
from shared.foreground import estimate_colours, soften
from shared.image_codec import Photo, lay_on_white

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.image_codec import Grey, Rgb, Rgba


def ring(height: int, width: int) -> Grey:
    """Mark an ellipse with a hole, whose edges cross many tiles."""
    mask = np.zeros((height, width), np.uint8)
    middle = (width // 2, height // 2)
    cv2.ellipse(mask, middle, (width // 2 - 40, height // 2 - 40), 0, 0, 360, 255, -1)
    cv2.ellipse(mask, middle, (width // 9, height // 9), 0, 0, 360, 0, -1)
    return mask


def noise(height: int, width: int) -> Rgb:
    """Make a picture in which every wrong pixel shows."""
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def test_tiles_give_the_same_as_the_whole() -> None:
    """No seam: each pixel depends only on the rim that its tile is given."""
    image, mask = noise(1300, 1700), ring(1300, 1700)
    floats = image.astype(np.float32) / np.float32(255)
    alpha = soften(floats, mask.astype(np.float32) / np.float32(255), round(0.008 * (1700 - 80)))
    colours = np.rint(estimate_colours(floats, alpha) * 255)

    cut = cut_out_in_place(Photo(image), mask)

    assert cut.shape == (1300, 1700, 4)
    assert np.abs(cut[..., 3] - alpha * 255).max() <= 1
    shown = cut[..., 3] > 0
    assert np.abs(cut[..., :3] - colours)[shown].max() <= 1


def test_inside_it_is_the_photo_and_outside_nothing_is_left() -> None:
    """Bit for bit inside; the file holds no pixel of the background."""
    image, mask = noise(1300, 1700), ring(1300, 1700)

    cut = cut_out_in_place(Photo(image), mask)

    inside = cv2.erode(mask, np.ones((151, 151), np.uint8)) > 0
    assert inside.any()
    assert (cut[inside] == np.dstack([image, np.full_like(mask, 255)])[inside]).all()
    assert not cut[cut[..., 3] == 0].any()


def test_what_is_transparent_in_the_photo_stays_so() -> None:
    """A hole of the photo is a hole of the object, and its hidden colours are gone."""
    rgba = np.full((100, 120, 4), 200, np.uint8)
    rgba[..., 3] = 255
    rgba[40:60, 40:60, 3] = 0

    cut = cut_out_in_place(Photo(lay_on_white(rgba), rgba=rgba), np.full((100, 120), 255, np.uint8))

    assert not cut[45:55, 45:55].any()
    assert (cut[80:, 90:] == [200, 200, 200, 255]).all()


def test_a_mask_of_another_size_is_stretched() -> None:
    """The answer has the photo's size."""
    cut = cut_out_in_place(Photo(noise(300, 421)), ring(150, 200))

    assert cut.shape == (300, 421, 4)


def test_an_empty_mask_is_refused() -> None:
    """There would be nothing to see."""
    with pytest.raises(BadInput, match="mask is empty"):
        cut_out_in_place(Photo(noise(50, 60)), np.zeros((50, 60), np.uint8))


@pytest.mark.parametrize("cut_out", [cut_out_in_place, cut_out_object])
def test_an_object_may_be_hardly_visible(cut_out: Callable[[Photo, Grey], Rgba]) -> None:
    """Its low opacity stays; only an invisible object is refused."""
    rgba = np.full((64, 64, 4), 90, np.uint8)
    rgba[:, :32, 3] = 0
    whole = np.full((64, 64), 255, np.uint8)

    cut = cut_out(Photo(lay_on_white(rgba), rgba=rgba.copy()), whole)

    seen = cut[cut.shape[0] // 2, :, 3].max()
    assert 80 <= seen <= 100
    with pytest.raises(BadInput, match="transparent there"):
        cut_out(Photo(lay_on_white(rgba), rgba=rgba.copy()), np.where(np.arange(64) < 32, whole, 0).astype(np.uint8))
