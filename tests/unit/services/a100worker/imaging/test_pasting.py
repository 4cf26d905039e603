"""Painted pixels go back into the photo without a rim, and as sharp as the photo round them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.a100worker.backend import blend
from services.a100worker.imaging.pasting import Patch, fade_at_edges, feather_px, to_native
from services.a100worker.imaging.placement import Box
from tests.unit.services.a100worker.recorder import box_mask, photo

REGION = box_mask(400, 600, (200, 100, 400, 300))


def sharpness(picture: np.ndarray, where: np.ndarray) -> float:
    """Variance of the Laplacian."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F)[where].var())


def test_pixels_of_the_window_s_size_come_back_as_they_are() -> None:
    """Where their colours are the photo's."""
    picture = photo("coffee")

    assert np.array_equal(to_native(Patch(picture, 1.0, REGION, 1), picture), picture)


@pytest.mark.parametrize("shift", [(8, 8, 8), (-5, 3, 12)])
def test_a_shift_of_colours_is_taken_back(shift: tuple[int, int, int]) -> None:
    """It is measured round the region, where both show the same."""
    picture = np.clip(photo("coffee"), 20, 235)
    painted = (picture + np.array(shift)).astype(np.uint8)

    native = to_native(Patch(painted, 1.0, REGION, 1), picture)

    assert np.abs(native.astype(int) - picture)[REGION > 0].max() <= 1


def test_a_large_difference_is_content_and_stays() -> None:
    """A patch beside a window that was painted at night does not become brighter."""
    picture = photo("coffee")
    painted = (picture * 0.3).astype(np.uint8)

    assert np.array_equal(to_native(Patch(painted, 1.0, REGION, 1), picture), painted)


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_pixels_painted_smaller_get_the_photo_s_grain(scale: float) -> None:
    """An enlarged fill alone would be soft: of the coffee's photo a fifth of the sharpness."""
    picture = photo("coffee")
    size = round(600 * scale), round(400 * scale)
    painted = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    enlarged = np.asarray(cv2.resize(painted, (600, 400), interpolation=cv2.INTER_CUBIC), np.uint8)

    native = to_native(Patch(painted, scale, REGION, 1), picture)

    inside = REGION > 0
    assert native.shape == picture.shape
    assert sharpness(native, inside) > 3 * sharpness(enlarged, inside)
    assert sharpness(native, inside) > 0.4 * sharpness(picture, inside)


def test_pixels_painted_larger_are_brought_back() -> None:
    """Small photos are painted at the size that the model is good at."""
    picture = photo("coffee")
    painted = np.asarray(cv2.resize(picture, (1200, 800), interpolation=cv2.INTER_CUBIC), np.uint8)

    native = to_native(Patch(painted, 2.0, REGION, 1), picture)

    assert np.abs(native.astype(int) - picture).mean() < 2


def test_the_feather_grows_with_the_scale() -> None:
    """Two painted pixels wide."""
    assert [feather_px(scale) for scale in (2.0, 1.0, 0.5, 0.2)] == [2, 2, 4, 10]


def test_a_region_fades_out_at_its_window_s_edges_but_not_at_the_photo_s() -> None:
    """A step would show where the window ends."""
    full = np.full((100, 120), 255, np.uint8)

    inside = fade_at_edges(full, Box(50, 60, 120, 100), (400, 600))
    corner = fade_at_edges(full, Box(0, 0, 120, 100), (400, 600))

    assert not inside[0].any()
    assert not inside[:, -1].any()
    assert (inside[8:-8, 8:-8] == 255).all()
    assert (np.diff(inside[50].astype(int))[:9] >= 0).all()
    assert (corner[:-8, :-8] == 255).all()
    assert not corner[-1].any()


def test_outside_the_region_not_a_byte_changes() -> None:
    """Whatever was painted there."""
    picture = photo("coffee")
    painted = np.asarray(255 - picture)

    result = blend(picture, to_native(Patch(painted, 1.0, REGION, 1), picture), REGION)

    assert np.array_equal(result[REGION == 0], picture[REGION == 0])
