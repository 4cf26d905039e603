"""Twenty spots on a photo of 12 megapixels, one after another: the bytes stored, and the time of each submission.

The baseline of a submission is a copy of the result in `inputs` before it, as an upload of the result would make.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared.image_codec import encode_jpeg, encode_png
from shared.settings import StreamSettings
from shared.topology import bucket_stream
from tests.benchmarks.test_edit import SIZES
from tests.benchmarks.test_patches import grainy_photo
from tests.v1_client import upload

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_codec import Grey
    from shared.image_store import Bucket, NatsImageStore
    from tests.benchmarks.meter import Table
    from tests.gateway import Client
    from tests.running import Desk

STROKES, SPOT_PX = 20, 100
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.parametrize("stream_settings", [StreamSettings(picture_bytes=4 * 1024**3)]),
]


def spot(number: int) -> Grey:
    """Return a mask with a square at a place of its own."""
    mask = np.zeros(SIZES[12], np.uint8)
    top, left = 200 + 600 * (number // 5), 300 + 700 * (number % 5)
    mask[top : top + SPOT_PX, left : left + SPOT_PX] = 255
    return mask


async def count_bytes(bus: Bus, bucket: Bucket) -> int:
    """Return the bytes that a bucket stores."""
    stream = await bus.client.jetstream().stream_info(bucket_stream(bucket))
    return stream.state.bytes


async def test_twenty_spots(client: Client, desk: Desk, bus: Bus, images: NatsImageStore, table: Table) -> None:
    """Each removal begins from the result before it, named by its hash."""
    image = await upload(client, encode_jpeg(grainy_photo(12), 92))
    masks = [await upload(client, encode_png(spot(number))) for number in range(STROKES)]
    before = {bucket: await count_bytes(bus, bucket) for bucket in ("inputs", "results")}
    submits, copies, copied = list[float](), list[float](), 0
    async with desk.manager(), desk.worker("classical"):
        for mask in masks:
            began = time.perf_counter()
            accepted = await client.post("/v1/jobs", json={"task": "removal", "image": image, "mask": mask})
            submits.append(1000 * (time.perf_counter() - began))
            done = await desk.done(accepted.json()["id"])
            image = done.result.sha256
            began = time.perf_counter()
            ref = await images.put("inputs", await images.get("results", image), force=True)
            copies.append(1000 * (time.perf_counter() - began))
            copied += ref.size_bytes if mask is not masks[-1] else 0
            await images.remove("inputs", image, _is_needed)
    inputs, results = [await count_bytes(bus, bucket) - before[bucket] for bucket in ("inputs", "results")]

    submit_ms = median(submits[1:])
    table.row("submission of a stroke on a result", submit_ms, "ms", baseline=submit_ms + median(copies))
    table.row("bytes stored for twenty strokes", (inputs + results) / 1e6, "MB", baseline=(results + copied) / 1e6)


async def _is_needed() -> bool:
    return False
