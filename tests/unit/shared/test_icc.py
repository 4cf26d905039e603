"""Profiles that are built from chromaticities give the right colours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from shared import icc


def srgb_curve(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def test_the_profile_of_srgb_changes_nothing() -> None:
    """Built from its chromaticities and its curve, and compared with the one of Little CMS."""
    built = ImageCms.ImageCmsProfile(io.BytesIO(icc.build_profile(icc.SRGB, icc.D65, srgb_curve)))
    pixels = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)

    converted = ImageCms.profileToProfile(Image.fromarray(pixels), built, ImageCms.createProfile("sRGB"))

    assert converted is not None
    assert np.abs(np.asarray(converted).astype(int) - pixels).max() <= 1


def test_white_and_black_stay() -> None:
    """Whatever the white of the display is."""
    wide = icc.build_profile(((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (0.3457, 0.3585), lambda v: v**1.8)
    ends = Image.fromarray(np.array([[[255, 255, 255], [0, 0, 0]]], np.uint8))

    converted = ImageCms.profileToProfile(
        ends, ImageCms.ImageCmsProfile(io.BytesIO(wide)), ImageCms.createProfile("sRGB")
    )

    assert np.asarray(converted).tolist() == [[[255, 255, 255], [0, 0, 0]]]


@pytest.mark.parametrize(
    "primaries",
    [((0.3, 0.3), (0.3, 0.3), (0.3, 0.3)), ((0.3, 0.0), (0.3, 0.6), (0.1, 0.1))],
    ids=["a point", "no light"],
)
def test_primaries_without_colours_are_an_error(primaries: tuple[icc.Pair, icc.Pair, icc.Pair]) -> None:
    """A file may state any numbers."""
    with pytest.raises(ValueError, match=r"chromaticity|line"):
        icc.build_profile(primaries, icc.D65, srgb_curve)
