"""Previews: small, at most two a second, and made only if they are sent."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.a100worker.job.previews import INTERVAL_S, MAX_BYTES, PreviewEncoder
from shared.image_codec import decode_photo
from tests.unit.services.a100worker.recorder import noise, photo

if TYPE_CHECKING:
    from shared.image_codec import Rgb


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def decode(text: str | None) -> Rgb:
    """Decode the text of an event."""
    assert text is not None
    return decode_photo(base64.b64decode(text)).rgb


def test_a_preview_has_a_long_side_of_256_pixels() -> None:
    """With the proportions and colours of the image."""
    cat = photo("cat")

    preview = decode(PreviewEncoder().encode(cat))

    assert max(preview.shape) == 256
    assert preview.shape[0] / preview.shape[1] == pytest.approx(cat.shape[0] / cat.shape[1], rel=0.01)
    assert np.abs(preview.mean(axis=(0, 1)) - cat.mean(axis=(0, 1))).max() < 3


def test_a_small_image_is_not_enlarged() -> None:
    """The page scales it up itself."""
    assert decode(PreviewEncoder().encode(np.full((64, 48, 3), 90, np.uint8))).shape == (64, 48, 3)


@pytest.mark.parametrize("size", [(256, 256), (2000, 3000), (16, 4096)])
def test_even_noise_stays_within_the_bound(size: tuple[int, int]) -> None:
    """At the cost of quality."""
    text = PreviewEncoder().encode(noise(*size))

    assert text is not None
    assert len(base64.b64decode(text)) <= MAX_BYTES


def test_two_a_second_are_enough() -> None:
    """Previews in between are not made."""
    clock, calls = Clock(), list[float]()

    def make() -> Rgb:
        calls.append(clock.now)
        return noise(8, 8)

    encoder = PreviewEncoder(clock)
    sent = [encoder.encode(make)]
    clock.now += INTERVAL_S * 0.9
    sent.append(encoder.encode(make))
    clock.now += INTERVAL_S * 0.2
    sent.append(encoder.encode(make))

    assert [text is not None for text in sent] == [True, False, True]
    assert len(calls) == 2
