"""The way into the model's frame and back."""

from __future__ import annotations

import numpy as np
import pytest

from services.a100worker.backends.qwen.frames import Frame
from tests.unit.services.a100worker.recorder import box_mask, noise, photo

AREA = 256 * 256


@pytest.mark.parametrize("size", [(256, 256), (92, 109), (16, 16), (1, 1), (100, 640)])
def test_a_picture_that_fits_comes_back_as_it_was(size: tuple[int, int]) -> None:
    """Only padding is added, and taken off again."""
    picture = noise(*size)
    frame = Frame.of(picture, AREA)

    framed = frame.enter(picture)

    assert framed.shape[0] % 16 == framed.shape[1] % 16 == 0
    assert min(framed.shape[:2]) >= 64
    assert np.array_equal(frame.leave(framed), picture)


@pytest.mark.parametrize("size", [(300, 451), (2000, 3000), (40, 4000)])
def test_a_larger_picture_is_scaled_at_its_own_proportions(size: tuple[int, int]) -> None:
    """And comes back at its size, not much changed."""
    picture = photo("cat")[: min(size[0], 300), : min(size[1], 451)]
    picture = np.ascontiguousarray(np.resize(picture, (*size, 3)))
    frame = Frame.of(picture, AREA)

    framed = frame.enter(picture)

    assert frame.inner[0] * frame.inner[1] <= AREA * 1.02
    assert frame.inner[0] / frame.inner[1] == pytest.approx(size[1] / size[0], rel=0.05)
    assert frame.leave(framed).shape == picture.shape


def test_no_marked_pixel_is_lost() -> None:
    """A hair-thin line stays, and padding is never marked."""
    mask = np.zeros((1000, 1003), np.uint8)
    mask[500, :] = 255
    frame = Frame.of(np.zeros((1000, 1003, 3), np.uint8), AREA)

    framed = frame.enter_mask(mask)

    assert set(np.unique(framed)) == {0, 255}
    assert framed[:, : frame.inner[0]].any(axis=0).all()
    assert not framed[:, frame.inner[0] :].any()
    assert framed.shape == (frame.outer[1], frame.outer[0])


def test_the_rim_goes_on_into_the_padding() -> None:
    """A black bar would be a thing to paint."""
    picture = noise(90, 100)
    framed = Frame.of(picture, AREA).enter(picture)

    assert np.array_equal(framed[:90, 100:], np.repeat(picture[:, 99:], framed.shape[1] - 100, axis=1))
    assert box_mask(90, 100, (0, 0, 5, 5)).any()
