"""Cutting out an object: exactly, to the pixel, by the rule that the deployed web client expects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from services.imageutils.extract import cut_out_object, extract_object
from shared.errors import BadInput
from shared.image_codec import Photo, decode_photo, lay_on_white

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb

SAMPLES = Path(__file__).parents[4] / "services/gateway/static/samples"


def rule(image: Rgb, mask: Grey) -> Rgb:
    """Compute the result in the simplest way."""
    picture = Image.fromarray(image)
    stencil = Image.fromarray(mask).resize(picture.size, Image.Resampling.NEAREST)
    box = stencil.point(lambda value: 255 if value > 128 else 0).getbbox()
    assert box is not None
    picture, stencil = picture.crop(box), stencil.crop(box)
    width, height = picture.size
    target = 512 if max(width, height) <= 512 else 1024
    scale = min(target / width, target / height)
    size = (int(width * scale), int(height * scale))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    stencil = stencil.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (target, target), (255, 255, 255))
    square.paste(picture, ((target - size[0]) // 2, (target - size[1]) // 2), stencil)
    return np.array(square)


def noise(height: int, width: int) -> Rgb:
    """Make a picture in which every wrong pixel shows."""
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def box_mask(height: int, width: int, box: tuple[int, int, int, int]) -> Grey:
    """Mark left, top, right, bottom (exclusive)."""
    mask = np.zeros((height, width), np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 255
    return mask


@pytest.mark.parametrize("name", ["astronaut", "cat", "coffee", "rocket"])
def test_a_photo_comes_out_as_the_rule_says(name: str) -> None:
    """The object of a real photo, cut out along a soft edge, equals the rule byte for byte."""
    image = decode_photo((SAMPLES / f"{name}.jpg").read_bytes()).rgb
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (width // 4, height // 3), 20, 0, 360, 255, -1)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 3), np.uint8)

    square = extract_object(image, mask)

    np.testing.assert_array_equal(square, rule(image, mask))


@pytest.mark.parametrize(
    ("box", "side"),
    [
        pytest.param((10, 10, 522, 300), 512, id="exactly-512-wide"),
        pytest.param((10, 10, 523, 300), 1024, id="one-pixel-wider"),
        pytest.param((0, 0, 700, 900), 1024, id="whole-picture"),
        pytest.param((350, 7, 351, 8), 512, id="one-pixel"),
        pytest.param((101, 203, 134, 402), 512, id="odd-rest-is-centred-by-floor"),
    ],
)
def test_the_longer_side_decides_the_size(box: tuple[int, int, int, int], side: int) -> None:
    """Objects of up to 512 px fill a square of 512 px, larger ones a square of 1024 px."""
    image, mask = noise(900, 700), box_mask(900, 700, box)

    square = extract_object(image, mask)

    assert square.shape == (side, side, 3)
    np.testing.assert_array_equal(square, rule(image, mask))


def test_a_mask_of_another_size_is_stretched() -> None:
    """A mask drawn on a smaller copy still marks the same object."""
    image, mask = noise(300, 421), box_mask(97, 130, (31, 20, 75, 88))

    square = extract_object(image, mask)

    np.testing.assert_array_equal(square, rule(image, mask))


def test_a_photo_of_several_bands_comes_out_as_the_rule_says() -> None:
    """Above a million pixels the rows are narrowed band by band; no byte may differ from the whole."""
    image, mask = noise(2100, 1700), box_mask(2100, 1700, (3, 5, 1695, 2099))
    mask[900:1300, 400:900] = 90

    assert np.array_equal(extract_object(image, mask), rule(image, mask))


def test_a_thin_line_keeps_a_pixel() -> None:
    """An object that scales to less than a pixel across is still there."""
    image, mask = np.zeros((3000, 20, 3), np.uint8), box_mask(3000, 20, (9, 0, 10, 3000))

    square = extract_object(image, mask)

    assert np.count_nonzero(square.min(axis=2) < 255) == 1024


def test_half_grey_is_outside() -> None:
    """Only pixels above 128 are marked."""
    mask = np.full((40, 40), 128, np.uint8)

    with pytest.raises(BadInput, match="mask is empty"):
        extract_object(noise(40, 40), mask)


def test_the_inputs_stay_as_they_are() -> None:
    """Arrays may be shared with other requests, so they are only read."""
    image, mask = noise(60, 80), box_mask(60, 80, (10, 10, 50, 50))
    image.flags.writeable = mask.flags.writeable = False

    square = extract_object(image, mask)

    assert square.flags.writeable


# --- on a transparent ground --------------------------------------------------------------------------------------


def test_a_cut_out_object_lies_where_the_white_one_does() -> None:
    """Both squares have the same size; this one is opaque inside and transparent outside."""
    image = decode_photo((SAMPLES / "cat.jpg").read_bytes()).rgb
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.ellipse(mask, (225, 150), (90, 110), 0, 0, 360, 255, -1)

    square, white = cut_out_object(Photo(image), mask), extract_object(image, mask)

    assert square.shape == (*white.shape[:2], 4)
    assert (square[256, 256] == [*white[256, 256], 255]).all()
    assert (square[0, 0] == 0).all()
    inside = cv2.erode((square[..., 3] == 255).astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
    assert np.abs(square[inside][:, :3].astype(int) - white[inside]).max() <= 1
    assert inside.mean() > 0.4


def test_a_soft_edge_keeps_nothing_of_the_old_background() -> None:
    """A red disc on green: its half-transparent rim is red."""
    solid = np.zeros((200, 200), np.uint8)
    cv2.circle(solid, (100, 100), 60, 255, -1)
    soft = np.asarray(cv2.GaussianBlur(solid, (0, 0), 2), np.float32)[..., None] / 255
    image = np.rint(np.array([220, 20, 20]) * soft + np.array([20, 200, 20]) * (1 - soft)).astype(np.uint8)

    square = cut_out_object(Photo(image), solid)

    rim = (square[..., 3] > 40) & (square[..., 3] < 215)
    assert rim.any()
    assert np.median(square[rim][:, 1]) < 60


def test_what_is_transparent_in_the_photo_stays_so() -> None:
    """A hole in the object is no part of it."""
    rgba = np.full((100, 100, 4), 200, np.uint8)
    rgba[..., 3] = 255
    rgba[40:60, 40:60, 3] = 0
    mask = box_mask(100, 100, (10, 10, 90, 90))

    square = cut_out_object(Photo(lay_on_white(rgba), rgba=rgba), mask)

    assert square[256, 256, 3] == 0
    assert square[60, 256, 3] == 255
