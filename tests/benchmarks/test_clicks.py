"""The time of clicks on a photo of 12 megapixels, from the file to the mask's PNG, without the broker."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import pytest

from services.segmentation.backend import Click, Prompt, load
from shared.image_codec import decode_photo, encode_jpeg, encode_png
from tests.benchmarks.test_edit import enlarged_photo
from tests.unit.services.segmentation.photos import WITH_WEIGHTS, LocalFeatures, needs_weights, never_cancel

if TYPE_CHECKING:
    from services.segmentation.backend import Engine
    from shared.image_codec import Rgb
    from tests.benchmarks.meter import Table

pytestmark = [pytest.mark.timeout(600), needs_weights]
SIZE = (3000, 4000)
ROUNDS = 5
# Photo, a click and a correction as fractions of its width and height, and the targets of both in milliseconds.
CLICKS = {
    "the subject": ("cat", (0.40, 0.45), (0.55, 0.80), 210.0, 195.0),
    "another object": ("astronaut", (0.82, 0.30), (0.84, 0.10), 1000.0, 450.0),
}


@pytest.mark.parametrize("kind", CLICKS)
def test_clicks(table: Table, kind: str) -> None:
    """The first click opens the photo and computes what the second one finds in memory."""
    name, *places, first_target_ms, second_target_ms = CLICKS[kind]
    jpeg, engine = encode_jpeg(enlarged_photo(SIZE, name), 90), load("grabcut", WITH_WEIGHTS)
    clicks = tuple(Click(x * SIZE[1], y * SIZE[0], positive=True) for x, y in places)
    first_ms, second_ms = [], []
    for _ in range(ROUNDS + 1):  # the first round warms up
        features = LocalFeatures()
        began = time.perf_counter()
        image = decode_photo(jpeg).rgb
        _select(engine, image, features, clicks[:1])
        opened = time.perf_counter()
        _select(engine, image, features, clicks)
        first_ms.append(1000 * (opened - began))
        second_ms.append(1000 * (time.perf_counter() - opened))
    table.row(f"first click on {kind}, 12 MP", median(first_ms[1:]), "ms", target=first_target_ms)
    table.row(f"second click on {kind}, 12 MP", median(second_ms[1:]), "ms", target=second_target_ms)


def _select(engine: Engine, image: Rgb, features: LocalFeatures, clicks: tuple[Click, ...]) -> bytes:
    return encode_png(engine.segment(image, Prompt(points=clicks), features, never_cancel)[0].mask)
