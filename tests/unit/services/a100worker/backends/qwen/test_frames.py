"""Scaling a photo into the model's frame and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.a100worker.backends.qwen.frames import Frame
from tests.unit.services.a100worker.recorder import box_mask, noise, photo

AREA = 1024 * 1024
SIDE = st.integers(1, 9000)


@given(SIDE, SIDE, st.sampled_from([128, 512, 1024, 2048]), st.sampled_from([None, 512]))
def test_a_frame_suits_the_model(width: int, height: int, side: int, least: int | None) -> None:
    """Its sides are multiples of 32, its area is about the wanted one or less, and a strip does not become too long."""
    frame = Frame.of(width, height, side * side, least)

    assert all(outer % 32 == 0 and outer >= 64 for outer in frame.outer)
    assert all(0 <= outer - inner < 64 for inner, outer in zip(frame.inner, frame.outer, strict=True))
    assert frame.inner[0] * frame.inner[1] <= side * side * 1.1 + 2 * max(frame.inner)
    assert max(frame.inner) <= 4 * side + 1


def test_small_pictures_are_enlarged_to_the_size_that_the_model_was_trained_at() -> None:
    """At their own proportions."""
    frame = Frame.of(451, 300, AREA)

    assert frame.inner == frame.outer == (1248, 832)
    assert frame.scale == pytest.approx(2.77, abs=0.01)


@pytest.mark.parametrize(
    ("size", "outer", "scale"),
    [
        ((928, 608), (928, 608), 1.0),
        ((512, 512), (512, 512), 1.0),
        ((2048, 2048), (1024, 1024), 0.5),
        ((451, 300), (768, 512), 1.70),
        ((3000, 300), (3200, 320), 1.07),
    ],
)
def test_windows_keep_their_own_resolution(size: tuple[int, int], outer: tuple[int, int], scale: float) -> None:
    """Unless they exceed the working area, or are smaller than 512 px."""
    frame = Frame.of(*size, AREA, 512)

    assert frame.outer == outer
    assert frame.scale == pytest.approx(scale, abs=0.01)


@given(st.integers(256, 9000), st.integers(256, 9000), st.sampled_from([724, 1024, 2048]), st.sampled_from([None, 512]))
def test_pixels_that_are_scaled_fill_their_frame(width: int, height: int, side: int, least: int | None) -> None:
    """At the photo's proportions; mirrored padding would be a thing that is not there."""
    frame = Frame.of(width, height, side * side, least)

    across, down = frame.inner[0] / width, frame.inner[1] / height
    assert frame.inner in {frame.outer, (width, height)}
    assert across / down == pytest.approx(1, abs=0.031)
    assert frame.inner[0] * frame.inner[1] <= side * side + 16 * max(frame.inner)


@pytest.mark.parametrize("size", [(512, 512), (608, 928), (544, 700)])
def test_a_window_s_pixels_come_back_as_they_were(size: tuple[int, int]) -> None:
    """Only padding is added, and taken off again."""
    picture = noise(*size)
    frame = Frame.of(size[1], size[0], AREA, 512)

    assert np.array_equal(frame.leave(frame.enter(picture)), picture)
    assert np.array_equal(frame.crop(frame.enter(picture)), picture)


@pytest.mark.parametrize("size", [(92, 109), (300, 451), (2000, 3000), (40, 4000), (1, 1)])
def test_a_picture_of_any_size_comes_back_at_its_size(size: tuple[int, int]) -> None:
    """And not much changed."""
    picture = np.resize(photo("cat")[: min(size[0], 300), : min(size[1], 451)], (*size, 3))
    frame = Frame.of(size[1], size[0], 512 * 512)

    back = frame.leave(frame.enter(np.ascontiguousarray(picture)))

    assert back.shape == picture.shape
    if frame.scale > 1:
        assert np.abs(back.astype(int) - picture).mean() < 4


@pytest.mark.parametrize("side", [256, 2048])
def test_no_marked_pixel_is_lost(side: int) -> None:
    """A hair-thin line stays, and padding is never marked."""
    mask = np.zeros((1000, 1003), np.uint8)
    mask[500, :] = 255
    frame = Frame.of(1003, 1000, side * side)

    framed = frame.enter_mask(mask)

    assert set(np.unique(framed)) == {0, 255}
    assert framed[:, : frame.inner[0]].any(axis=0).all()
    assert not framed[:, frame.inner[0] :].any()
    assert framed.shape == (frame.outer[1], frame.outer[0])


def test_an_enlarged_mask_does_not_grow() -> None:
    """Its edge stays where it was."""
    mask = box_mask(100, 100, (20, 20, 60, 60))
    frame = Frame.of(100, 100, 400 * 400)

    framed = frame.enter_mask(mask)

    assert np.abs(np.count_nonzero(framed) / (40 * frame.scale) ** 2 - 1) < 0.03


def test_the_padding_mirrors_the_picture() -> None:
    """A black bar, or streaks, would be a thing to paint."""
    picture = noise(590, 600)
    framed = Frame.of(600, 590, AREA, 512).enter(picture)

    assert framed.shape == (608, 608, 3)
    assert np.array_equal(framed[:590, 600:], picture[:, :-9:-1])
