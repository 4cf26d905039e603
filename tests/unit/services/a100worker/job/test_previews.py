"""Previews: small, seldom, and made only when they will be seen."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.a100worker.job.previews import EVERY_S, MAX_BYTES, Previews
from shared.image_codec import decode_photo
from tests.unit.services.a100worker.recorder import noise, photo

if TYPE_CHECKING:
    from shared.image_codec import Rgb


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def shown(text: str | None) -> Rgb:
    """Decode what travels in an event."""
    assert text is not None
    return decode_photo(base64.b64decode(text)).rgb


def test_a_preview_shows_the_picture_at_a_quarter_of_a_thousand_pixels() -> None:
    """Its long side, at its own proportions, and in its own colours."""
    cat = photo("cat")

    preview = shown(Previews().of(cat))

    assert max(preview.shape) == 256
    assert preview.shape[0] / preview.shape[1] == pytest.approx(cat.shape[0] / cat.shape[1], rel=0.01)
    assert np.abs(preview.mean(axis=(0, 1)) - cat.mean(axis=(0, 1))).max() < 3


def test_a_small_picture_is_not_blown_up() -> None:
    """The page can do that itself."""
    assert shown(Previews().of(np.full((64, 48, 3), 90, np.uint8))).shape == (64, 48, 3)


@pytest.mark.parametrize("size", [(256, 256), (2000, 3000), (16, 4096)])
def test_even_noise_stays_within_the_bound(size: tuple[int, int]) -> None:
    """Whatever it costs in quality."""
    text = Previews().of(noise(*size))

    assert text is not None
    assert len(base64.b64decode(text)) <= MAX_BYTES


def test_two_a_second_are_enough() -> None:
    """The others are not even made."""
    clock, made = Clock(), []

    def make() -> Rgb:
        made.append(clock.now)
        return noise(8, 8)

    previews = Previews(clock)
    sent = [previews.of(make)]
    clock.now += EVERY_S * 0.9
    sent.append(previews.of(make))
    clock.now += EVERY_S * 0.2
    sent.append(previews.of(make))

    assert [text is not None for text in sent] == [True, False, True]
    assert len(made) == 2
