"""How well casts are found and taken out, and that the two knobs turn the right way.

Casts are gains in linear light: lamps of 2800 to 9000 K against 6500 K, and a green and a magenta tint.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.imageutils.white_balance import auto_gains, auto_table, balance_auto, balance_manual, estimate_cast
from shared.colour_tables import apply_table
from shared.image_codec import decode_photo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Rgb

SAMPLES = Path(__file__).parents[4] / "services/gateway/static/samples"
PHOTOS = ["astronaut", "cat", "coffee", "rocket"]
CASTS = {
    "2800 K": (2.128, 1.0, 0.251),  # blackbody colours in linear sRGB, G at 1
    "3500 K": (1.637, 1.0, 0.430),
    "4500 K": (1.291, 1.0, 0.655),
    "9000 K": (0.860, 1.0, 1.285),
    "green": (0.8, 1.0, 0.8),
    "magenta": (1.2, 0.85, 1.2),
}


def photo(name: str) -> Rgb:
    """Load a sample."""
    return decode_photo((SAMPLES / f"{name}.jpg").read_bytes()).rgb


def linear(image: Rgb) -> NDArray[np.float64]:
    """Undo the sRGB curve, in its plain form."""
    code = image / 255
    return np.asarray(np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4))


def under(light: tuple[float, ...], image: Rgb, *, scale: bool = True) -> Rgb:
    """Show the picture as if it had been taken under another light; scaled, nothing new clips."""
    light_linear = (linear(image) * (np.array(light) / (max(light) if scale else 1))).clip(0, 1)
    code = np.where(light_linear <= 0.0031308, 12.92 * light_linear, 1.055 * light_linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(code * 255), np.uint8)


def error_degrees(image: Rgb, truth: Rgb) -> float:
    """Return the mean angle between the colours of two images in linear light, without almost black pixels."""
    first, second = linear(image[::3, ::3]).reshape(-1, 3), linear(truth[::3, ::3]).reshape(-1, 3)
    lengths = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    lit = (lengths[0] > 0.01) & (lengths[1] > 0.01)
    cosine = (first * second).sum(axis=1)[lit] / (lengths[0] * lengths[1])[lit]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


def mean(image: Rgb) -> NDArray[np.float64]:
    """Mean R, G and B."""
    return np.asarray(image.reshape(-1, 3).mean(axis=0))


def test_casts_on_photos_are_more_than_halved() -> None:
    """Over all photos and casts the colours come much closer to the originals (10.8 to 4.6 degrees when written)."""
    pairs = [(photo(name), light) for name in PHOTOS for light in CASTS.values()]

    before = np.mean([error_degrees(under(light, original), original) for original, light in pairs])
    after = np.mean([error_degrees(balance_auto(under(light, original)), original) for original, light in pairs])

    assert after < before / 2


@pytest.mark.parametrize("name", PHOTOS)
def test_lamp_light_is_always_reduced(name: str) -> None:
    """Under a 2800 K lamp each single photo loses more than half of its error."""
    original = photo(name)
    yellow = under(CASTS["2800 K"], original)

    balanced = balance_auto(yellow)

    assert error_degrees(balanced, original) < error_degrees(yellow, original) / 2


@pytest.mark.parametrize("name", PHOTOS)
def test_the_gains_for_a_preview_make_the_same_picture(name: str) -> None:
    """Multiplied in linear light, and at half strength by their square roots, within 3 of 255 beside highlights."""
    yellow = under(CASTS["3500 K"], photo(name))[::4, ::4]
    gains = auto_gains(yellow)

    for strength in (1.0, 0.5):
        shown = under(tuple(gains**strength), yellow, scale=False)
        inside = (yellow.max(axis=2) < 200) & (shown.max(axis=2) < 255)
        difference = np.abs(shown.astype(int) - balance_auto(yellow, strength))[inside]
        assert difference.max() <= 3


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_a_balanced_photo_is_hardly_touched(name: str) -> None:
    """Where the methods find no common cast, the colours turn by less than one degree."""
    original = photo(name)

    balanced = balance_auto(original)

    assert error_degrees(balanced, original) < 1


def test_the_harm_without_a_cast_is_bounded() -> None:
    """Also with the photos of one main colour, a cat and a night sky, the mean turn is 4.3 degrees when written."""
    originals = [photo(name) for name in PHOTOS]

    harm = [error_degrees(balance_auto(original), original) for original in originals]

    assert np.mean(harm) < 5


def test_grey_stays_exactly_grey() -> None:
    """A picture without any colour has no cast."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2).repeat(40, axis=1)

    balanced = balance_auto(ramp)

    np.testing.assert_array_equal(balanced, ramp)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0)], ids=["black", "white", "pure-red"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (64, 64)])
def test_a_picture_that_does_not_tell_stays(colour: tuple[int, int, int], shape: tuple[int, int]) -> None:
    """Clipped or black pixels give no estimate of the light."""
    flat = np.full((*shape, 3), colour, np.uint8)

    balanced = balance_auto(flat)

    np.testing.assert_array_equal(balanced, flat)


def test_the_colour_of_things_is_not_taken_for_light() -> None:
    """A sea of one deep colour is corrected no further than the farthest lamp would explain."""
    sea = np.full((50, 50, 3), (8, 40, 200), np.uint8)

    cast = estimate_cast(sea)

    assert np.abs(cast).max() <= 1.5


@pytest.mark.parametrize(("distance", "share"), [(0.2, 1.0), (0.45, 1.0), (0.6, 0.5), (0.75, 0.0), (1.2, 0.0)])
@pytest.mark.parametrize("side", [1, -1], ids=["magenta", "green"])
def test_a_cast_far_from_all_lamps_is_a_surface(distance: float, share: float, side: int) -> None:
    """No lamp is green or purple: the correction ends between 0.45 and 0.75 beside the line of real lights."""
    daylight, across = np.array([-0.018, 0.0, 0.176]), np.array([0.8545, 0.0, 0.5195])
    light = daylight + side * distance * across
    code = 255 * (0.4 * np.exp(light - light.max())) ** (1 / 2.2)
    flat = np.full((50, 50, 3), np.rint(code), np.uint8)

    cast = estimate_cast(flat)

    size = float(np.linalg.norm(light))
    np.testing.assert_allclose(cast, share * light * size / (size + 0.05), atol=0.06)


def test_a_meadow_stays_green() -> None:
    """A scene of one strong colour that no lamp has is left as it is."""
    grain = np.random.default_rng(5).integers(-20, 20, (80, 120, 3))
    meadow = np.clip(np.array([70, 150, 40]) + grain, 0, 255).astype(np.uint8)

    balanced = balance_auto(meadow)

    assert error_degrees(balanced, meadow) < 1


@pytest.mark.parametrize("highlight", [(255, 243, 157), (255, 255, 255), (255, 255, 200)])
def test_clipped_highlights_become_neutral(highlight: tuple[int, int, int]) -> None:
    """A lamp that is clipped in yellow light is white afterwards, neither mint nor pink."""
    yellow = under(CASTS["3500 K"], photo("coffee"))
    yellow[:40, :40] = highlight

    balanced = balance_auto(yellow)[20, 20].astype(int)

    assert np.ptp(balanced) <= 20
    assert balanced.min() > 235


def test_bright_colours_keep_their_hue() -> None:
    """Only a clipped channel is raised, and only to the brightest one: red stays red."""
    yellow = under(CASTS["3500 K"], photo("coffee"))
    yellow[:40, :40] = (255, 40, 30)

    red = balance_auto(yellow)[20, 20].astype(int)

    assert red[0] > 150
    assert max(red[1:]) < 80


def test_strength_blends_between_photo_and_correction() -> None:
    """Zero changes no byte, a half lies between nothing and everything."""
    yellow = under(CASTS["3500 K"], photo("astronaut"))

    none, half, full = (mean(balance_auto(yellow, strength)) for strength in (0.0, 0.5, 1.0))

    assert np.array_equal(balance_auto(yellow, 0.0), yellow)
    assert none[2] < half[2] < full[2]
    assert none[0] > half[0] > full[0]


def test_the_brightness_stays() -> None:
    """Correcting a cast neither darkens nor lightens the photo."""
    yellow = under(CASTS["4500 K"], photo("coffee"))
    luma = np.array([0.2126, 0.7152, 0.0722])

    balanced = balance_auto(yellow)

    assert (linear(balanced) @ luma).mean() == pytest.approx((linear(yellow) @ luma).mean(), rel=0.02)


def test_neutral_knobs_change_no_byte() -> None:
    """Both knobs at 0 are the identity."""
    original = photo("cat")

    balanced = balance_manual(original, 0, 0)

    np.testing.assert_array_equal(balanced, original)


def test_a_photo_of_several_bands_is_balanced_as_one() -> None:
    """Above a million pixels the gains are applied band by band; the same colour comes out the same everywhere."""
    column = np.random.default_rng(7).integers(0, 256, (1, 1700, 3), np.uint8)
    image = np.repeat(column, 2100, axis=0)

    balanced = balance_manual(image, 60, -30)

    assert not np.array_equal(balanced, image)
    assert np.array_equal(balanced, np.repeat(balanced[:1], 2100, axis=0))


def test_temperature_warms_step_by_step() -> None:
    """The higher the temperature knob, the more red and the less blue."""
    original = photo("cat")

    steps = [mean(balance_manual(original, temperature, 0)) for temperature in (-100, -50, 0, 50, 100)]

    warmth = [step[0] - step[2] for step in steps]
    assert warmth == sorted(warmth)
    assert warmth[0] < warmth[2] - 20 < warmth[4] - 40


def test_tint_turns_green_to_magenta_step_by_step() -> None:
    """The higher the tint knob, the less green against the mean of red and blue."""
    original = photo("cat")

    steps = [mean(balance_manual(original, 0, tint)) for tint in (-100, -50, 0, 50, 100)]

    magenta = [(step[0] + step[2]) / 2 - step[1] for step in steps]
    assert magenta == sorted(magenta)
    assert magenta[0] < magenta[2] - 15 < magenta[4] - 30


def test_an_automatic_balance_can_be_made_warmer() -> None:
    """Without strength it is the manual knob alone; with it the knob is added."""
    original = photo("coffee")
    alone, both = (apply_table(original, auto_table(original, strength, temperature=40)) for strength in (0.0, 1.0))
    balanced = mean(balance_auto(original))

    np.testing.assert_array_equal(alone, balance_manual(original, 40, 0))
    assert mean(both)[0] - mean(both)[2] > balanced[0] - balanced[2] + 10


def test_manual_strength_scales_the_knobs() -> None:
    """Half the strength at full knobs is the same as full strength at half knobs."""
    original = photo("coffee")

    half_strength, half_knobs = balance_manual(original, 80, -40, 0.5), balance_manual(original, 40, -20)

    np.testing.assert_array_equal(half_strength, half_knobs)
