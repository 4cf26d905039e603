"""Duration of a second prompt, beside the library's own; printed, not asserted."""

from __future__ import annotations

import base64
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from services.segmentation import service as segmentation
from services.segmentation.backend import Click, Prompt, load
from services.segmentation.geometry import resize
from services.segmentation.masks import iou
from shared.image_codec import decode_mask, encode_jpeg
from shared.settings import NatsSettings
from tests.benchmarks.conftest import table  # noqa: F401 (a fixture)
from tests.gateway import b64, gateway
from tests.models.segmentation.conftest import FASTSAM, settings_for
from tests.models.segmentation.scenes import scene
from tests.unit.services.segmentation.photos import LocalFeatures, never_cancel
from tests.v1_client import beside, upload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from services.segmentation.settings import Settings
    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.benchmarks.measuring.meter import Table

SCENE = scene(3)
PHOTO = resize(SCENE.image, 1024, 768)
POINTS = [(shape.middle[0] * 3.2, shape.middle[1] * 3.2) for shape in SCENE.shapes] * 8
TARGET_MS = 10.0


def took_ms(work: Callable[[Any], object], over: list[Any]) -> float:
    """Return the median time of a call."""
    times = []
    for each in over:
        began = time.perf_counter()
        work(each)
        times.append(time.perf_counter() - began)
    return 1000 * median(times)


@pytest.fixture(scope="module")
def bare_ms(tiny: Settings) -> dict[str, float]:
    """Durations of a prompt in ultralytics: with a network run each time, and on earlier results."""
    import torch  # noqa: PLC0415 (seconds)
    from ultralytics import FastSAM  # noqa: PLC0415

    library = FastSAM(tiny.model_dir / "fastsam" / FASTSAM)
    wanted: dict[str, Any] = {
        "imgsz": 160,
        "conf": 0.4,
        "iou": 0.9,
        "retina_masks": True,
        "device": "cpu",
        "verbose": False,
    }
    picture = PHOTO[..., ::-1].copy()
    seen = library.predict(picture, **wanted)
    torch.set_num_threads(1)  # it has taken more, which only wait for each other; ours has one too
    return {
        "look": took_ms(lambda point: library.predict(picture, points=[point], labels=[1], **wanted), POINTS),
        "prompt": took_ms(lambda point: library.predictor.prompt(seen, points=[point], labels=[1]), POINTS),
    }


def test_a_prompt_on_what_was_seen(tiny: Settings, bare_ms: dict[str, float], table: Table) -> None:  # noqa: F811
    """In the engine alone: choosing the thing and drawing its mask at the picture's size."""
    engine, memory = load("fastsam", tiny), LocalFeatures()
    ways = [Prompt(points=(Click(*point, positive=True),)) for point in POINTS]
    engine.segment(PHOTO, ways[0], memory, never_cancel)

    figure = took_ms(lambda prompt: engine.segment(PHOTO, prompt, memory, never_cancel), ways)

    table.row("second prompt, in the engine", figure, "ms", baseline=bare_ms["prompt"])
    table.row("second prompt, beside a look each time", figure, "ms", baseline=bare_ms["look"])
    assert memory.computed == 1


async def test_a_prompt_through_the_gateway(
    bus: Bus,
    segmentation_models: Path,
    nats_url: str,
    stream_settings: StreamSettings,
    bare_ms: dict[str, float],
    table: Table,  # noqa: F811
) -> None:
    """On a picture of 1024 x 768 that the service knows: by its id, by its hash in /v1, and sent again as a whole."""
    nats = NatsSettings(url=nats_url)
    settings = settings_for(segmentation_models, backends="fastsam", nats=nats, streams=stream_settings)
    jpeg = encode_jpeg(PHOTO, 92)
    async with beside(bus, segmentation.NAME, segmentation.run, settings), gateway(nats, stream_settings) as client:
        photo = await upload(client, jpeg)
        whole = b64(jpeg)
        asks: dict[str, Callable[[tuple[float, float]], tuple[str, dict[str, Any]]]] = {
            "by id": lambda point: ("/api/smart-mask", {"image_id": photo, "points": [point]}),
            "by hash, in /v1": lambda point: ("/v1/masks", {"image": photo, "points": [[*point, 1]]}),
            "sent again": lambda point: ("/api/smart-mask", {"image": whole, "points": [point]}),
        }
        await client.post("/api/smart-mask", json={"image_id": photo, "points": [POINTS[0]]})
        times: dict[str, list[float]] = {name: [] for name in asks}
        for point in POINTS:  # in turn, so that a busy moment hits all alike
            for name, ask in asks.items():
                path, body = ask(point)
                began = time.perf_counter()
                answer = await client.post(path, json=body)
                times[name].append(1000 * (time.perf_counter() - began))
                assert answer.status_code == 200, answer.text
        for name, each in times.items():
            table.row(f"second prompt, gateway, {name}", median(each), "ms", target=TARGET_MS, baseline=bare_ms["look"])
            table.row("  the quickest", min(each), "ms", target=TARGET_MS)
        answer = await client.post("/api/smart-mask", json={"image_id": photo, "points": [POINTS[1]]})
    mask = decode_mask(base64.b64decode(answer.json()["mask_base64"]))
    truth = cv2.resize(SCENE.shapes[1].mask, (1024, 768), interpolation=cv2.INTER_NEAREST)
    assert iou(mask, np.asarray(truth)) > 0.75
