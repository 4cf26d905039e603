"""A profile is kept if it fits the result's RGB values, applied if it does not, and dropped if it is wrong."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from shared.colour import SRGB, Colour, converter, fit, to_space, to_srgb
from tests.browser.coloured_files import grey_profile, profiles

WIDE = Colour(profiles()["wide"])
GREY = Colour(grey_profile())
LINEAR = Colour(chunks={b"gAMA": struct.pack(">I", 100_000)})
RED = np.array([[[255, 0, 0]]], np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "PA", "L", "LA", "1", "I;16"])
def test_a_profile_of_a_display_is_kept(mode: str) -> None:
    """Palettes are RGB, and grey values are equal R, G and B."""
    assert fit(mode, WIDE) == WIDE
    assert converter(mode, WIDE) is None


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_values_are_converted_by_a_grey_profile(mode: str) -> None:
    """RGB cannot state it."""
    assert fit(mode, GREY) == SRGB
    assert converter(mode, GREY) is not None


@pytest.mark.parametrize(("mode", "colour"), [
    ("RGB", GREY), ("P", GREY), ("CMYK", GREY), ("CMYK", WIDE), ("LAB", WIDE), ("RGB", Colour(b"garbage" * 40)),
    ("L", Colour(b"")),
])  # fmt: skip
def test_a_profile_that_does_not_fit_is_dropped(mode: str, colour: Colour) -> None:
    """The values are sRGB then, as browsers show them."""
    assert fit(mode, colour) == SRGB
    assert converter(mode, colour) is None


def test_chunks_count_where_the_profile_is_dropped() -> None:
    """They are the next statement of the file."""
    assert fit("RGB", Colour(b"garbage", LINEAR.chunks)) == LINEAR


def test_the_red_of_srgb_is_a_weaker_red_of_a_wide_display() -> None:
    """The known values of Display P3, within a level."""
    assert np.abs(to_space(RED, SRGB, WIDE).astype(int) - [[[234, 51, 35]]]).max() <= 1


@pytest.mark.parametrize("colour", [SRGB, WIDE, LINEAR, Colour(chunks={b"cICP": bytes([12, 13, 0, 1])})])
def test_the_same_space_changes_no_byte(colour: Colour) -> None:
    """Not even a copy is made."""
    pixels = np.zeros((2, 3, 3), np.uint8)

    assert to_space(pixels, colour, colour) is pixels


def test_a_round_trip_loses_a_level() -> None:
    """Of colours that both spaces have."""
    pixels = np.random.default_rng(2).integers(60, 200, (30, 30, 3), np.uint8)

    assert np.abs(to_space(to_space(pixels, SRGB, WIDE), WIDE, SRGB).astype(int) - pixels).max() <= 1


def test_code_points_mean_the_same_as_a_profile() -> None:
    """Display P3 in both."""
    coded = Colour(chunks={b"cICP": bytes([12, 13, 0, 1])})
    pixels = np.random.default_rng(3).integers(0, 256, (30, 30, 3), np.uint8)

    assert np.abs(to_srgb(pixels, coded).astype(int) - to_srgb(pixels, WIDE)).max() <= 1


def test_linear_values_become_brighter() -> None:
    """Half the light is 188 in sRGB."""
    grey = np.full((1, 1, 3), 128, np.uint8)

    assert abs(int(to_srgb(grey, LINEAR)[0, 0, 0]) - 188) <= 1


@pytest.mark.parametrize("chunks", [
    {b"gAMA": bytes(4)}, {b"gAMA": struct.pack(">I", 45_455), b"cHRM": bytes(32)},
    {b"cICP": bytes([9, 16, 0, 1])}, {b"cICP": bytes([99, 99, 0, 1])}, {b"cHRM": bytes(32)},
])  # fmt: skip
def test_a_meaning_without_a_profile_is_left_alone(chunks: dict[bytes, bytes]) -> None:
    """Numbers without sense, and light beyond white: the values stay as they are, and so does the statement."""
    colour = Colour(chunks=chunks)

    assert to_srgb(RED, colour) is RED
    assert dict(colour.for_png()) == chunks
