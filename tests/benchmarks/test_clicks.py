"""The time of clicks on a photo of 12 megapixels, from the file to the mask's PNG, without the broker."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import pytest

from services.segmentation.backend import Click, Prompt, load
from services.segmentation.geometry import whole_image
from services.segmentation.saliency import Saliency
from shared.image_codec import decode_photo, encode_jpeg, encode_png
from tests.benchmarks.test_edit import enlarged_photo
from tests.unit.services.segmentation.photos import MODELS, WITH_WEIGHTS, LocalFeatures, needs_weights, never_cancel

if TYPE_CHECKING:
    from services.segmentation.backend import Engine
    from shared.image_codec import Rgb
    from tests.benchmarks.measuring.meter import Table

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
    """The first click decodes the photo and computes its features. The second one finds them in memory."""
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


def test_look_ahead(table: Table) -> None:
    """A first click on the subject of a photo that was looked at, and the look, beside a click on a new photo."""
    name, place, *_ = CLICKS["the subject"]
    jpeg, engine = encode_jpeg(enlarged_photo(SIZE, name), 90), load("grabcut", WITH_WEIGHTS)
    click = (Click(place[0] * SIZE[1], place[1] * SIZE[0], positive=True),)
    network, stages = Saliency((MODELS / "u2netp" / "u2netp.onnx").read_bytes(), 1), list[list[float]]()
    for _ in range(ROUNDS + 1):
        new, looked_at, times = LocalFeatures(), LocalFeatures(), [time.process_time()]
        _select(engine, decode_photo(jpeg).rgb, new, click)
        times.append(time.process_time())
        image = decode_photo(jpeg).rgb
        network.predict(image, looked_at, whole_image(image))
        times.append(time.process_time())
        _select(engine, image, looked_at, click)
        times.append(time.process_time())
        stages.append([1000 * (end - begin) for begin, end in pairwise(times)])
    cold_ms, look_ms, warm_ms = (median(stage) for stage in zip(*stages[1:], strict=True))
    table.row("first click on the subject, looked at ahead: CPU", warm_ms, "ms", baseline=cold_ms)
    table.row("the look ahead: CPU", look_ms, "ms", baseline=cold_ms)


def _select(engine: Engine, image: Rgb, features: LocalFeatures, clicks: tuple[Click, ...]) -> bytes:
    return encode_png(engine.segment(image, Prompt(points=clicks), features, never_cancel)[0].mask)
