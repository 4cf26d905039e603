"""An extracted object on the light background: soft shadow, soft edge, no white fringe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.imageutils.shadow import Shadow, add_shadow
from shared.errors import BadInput, TooLarge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

SIDE = 256
RED = np.array([180.0, 30.0, 40.0])
GROUND = 245
NO_SHADOW = Shadow(opacity=0)


def soft_disc(radius: int = 70, sigma: float = 1.2) -> NDArray[np.float64]:
    """Make the opacity of a disc in the middle, 0..1, with an edge about four sigma pixels wide."""
    disc = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(disc, (SIDE // 2, SIDE // 2), radius, 255, -1)
    return np.asarray(cv2.GaussianBlur(disc, (0, 0), sigma) / 255, np.float64)


def on(ground: float, opacity: NDArray[np.float64]) -> Rgb:
    """Put a red object on an even ground."""
    mixed = RED * opacity[..., None] + ground * (1 - opacity[..., None])
    return np.asarray(np.rint(mixed), np.uint8)


def as_mask(opacity: NDArray[np.float64]) -> Grey:
    """Turn 0..1 into a mask."""
    return np.asarray(np.rint(opacity * 255), np.uint8)


@pytest.mark.parametrize("with_mask", [True, False])
def test_white_becomes_the_light_ground_without_a_fringe(with_mask: bool) -> None:  # noqa: FBT001
    """The result is the object on #F5F5F5, along the soft edge too."""
    opacity = soft_disc()
    mask = as_mask(opacity) if with_mask else None

    shown = add_shadow(on(255, opacity), mask, NO_SHADOW)

    difference = np.abs(shown.astype(int) - on(GROUND, opacity))
    assert difference.max() <= 2
    assert (shown[0, 0] == GROUND).all()


@pytest.mark.parametrize("sigma", [0.5, 1.2, 2.7])
@pytest.mark.parametrize("with_mask", [True, False])
def test_no_light_line_parts_the_object_from_its_shadow(with_mask: bool, sigma: float) -> None:  # noqa: FBT001
    """From the object's foot outwards, the pixels only get lighter."""
    opacity = soft_disc(sigma=sigma)
    mask = as_mask(opacity) if with_mask else None

    shown = add_shadow(on(255, opacity), mask, Shadow(0, 20, 0.8, 15))

    outwards = shown[SIDE // 2 + 50 :, SIDE // 2, 1].astype(int)
    assert outwards[0] == RED[1]
    assert outwards[-1] == GROUND
    assert np.diff(outwards).min() >= -3


def test_no_light_line_is_left_at_the_border() -> None:
    """An extraction is cut where its mask is at a half; there the white shines through as well."""
    opacity = soft_disc(100, 2.7)[28:-28, 28:-28]

    shown = add_shadow(on(255, opacity), None, NO_SHADOW)

    np.testing.assert_allclose(shown[0, 100], on(GROUND, opacity)[0, 100], atol=2)


def test_the_inside_of_the_object_stays() -> None:
    """The shadow falls beside the object, never on it."""
    opacity = soft_disc()
    picture = on(255, opacity)

    shown = add_shadow(picture, None, Shadow(opacity=1, blur_px=101))

    inside = opacity == 1
    np.testing.assert_array_equal(shown[inside], picture[inside])


def test_the_shadow_falls_where_the_offset_points() -> None:
    """Right of the object it is darker than left of it, if the shadow goes to the right."""
    shown = add_shadow(on(255, soft_disc()), None, Shadow(offset_x_px=20, offset_y_px=0))

    row = shown[SIDE // 2 + 30].astype(int)
    assert row[SIDE - 60, 0] < GROUND - 20
    assert row[60, 0] == GROUND


def test_the_shadow_is_deepest_at_the_foot() -> None:
    """It fades towards the object's top, as if the object stood on the ground."""
    shown = add_shadow(on(255, soft_disc()), None, Shadow(offset_x_px=15, offset_y_px=0)).astype(int)

    column = SIDE // 2 + 65
    upper, lower = shown[SIDE // 2 - 40, column, 0], shown[SIDE // 2 + 40, column, 0]
    assert lower < upper - 20 < GROUND - 20


def test_more_opacity_is_darker() -> None:
    """Opacity scales the darkest part of the shadow."""
    picture = on(255, soft_disc())

    faint, strong = (add_shadow(picture, None, Shadow(5, 20, opacity)) for opacity in (0.2, 0.8))

    foot = (SIDE // 2 + 80, SIDE // 2)
    assert GROUND > faint[foot][1] > strong[foot][1]


def test_an_even_blur_is_made_odd() -> None:
    """A Gaussian window needs a middle, so 20 means 21."""
    picture = on(255, soft_disc())

    even, odd = (add_shadow(picture, None, Shadow(blur_px=blur)) for blur in (20, 21))

    np.testing.assert_array_equal(even, odd)


def test_a_mask_of_another_size_is_stretched() -> None:
    """A mask of half the size gives nearly the same picture."""
    opacity = soft_disc()
    half = as_mask(np.asarray(cv2.resize(opacity, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA), np.float64))

    small, full = (add_shadow(on(255, opacity), mask, Shadow()) for mask in (half, as_mask(opacity)))

    assert np.abs(small.astype(int) - full).mean() < 0.5


def test_white_spots_within_the_object_stay_white() -> None:
    """A highlight is part of the object, even without a mask."""
    picture = on(255, soft_disc())
    picture[140:146, 120:126] = 255

    shown = add_shadow(picture, None, Shadow(opacity=1))

    assert (shown[142:144, 122:124] == 255).all()


def test_white_corners_become_ground() -> None:
    """White up to the image border is background, however small it is."""
    picture = np.full((SIDE, SIDE, 3), RED, np.uint8)
    picture[:12, :12] = 255

    shown = add_shadow(picture, None, NO_SHADOW)

    assert (shown[0, 0] == GROUND).all()


def test_a_white_picture_holds_no_object() -> None:
    """Without a mask, an all-white picture cannot be worked on."""
    with pytest.raises(BadInput, match="no object"):
        add_shadow(np.full((8, 8, 3), 255, np.uint8), None, Shadow())


def test_an_empty_mask_marks_no_object() -> None:
    """A mask that marks nothing cannot be worked on."""
    with pytest.raises(BadInput, match="no object"):
        add_shadow(on(255, soft_disc()), np.zeros((SIDE, SIDE), np.uint8), Shadow())


def test_a_picture_far_larger_than_an_extraction_is_refused() -> None:
    """It would cost gigabytes of memory for a preview."""
    with pytest.raises(TooLarge, match="2048"):
        add_shadow(np.zeros((4, 2049, 3), np.uint8), None, Shadow())
