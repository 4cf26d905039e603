"""Twenty spots on a photo of 12 megapixels, one after another: the bytes stored, and the time of each submission.

In a small share, steps whose files were deleted to free space are assembled.

The baseline of a submission is a copy of the result in `inputs` before it, as an upload of the result would make.
"""

from __future__ import annotations

import hashlib
import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.imageutils.service import NAME, run
from services.imageutils.settings import Settings
from shared.image_codec import encode_jpeg, encode_png
from shared.object_buckets import ObjectBuckets
from shared.settings import NatsSettings, StreamSettings
from shared.topology import bucket_stream
from tests.benchmarks.test_edit import SIZES
from tests.benchmarks.test_patches import grainy_photo
from tests.v1_client import beside, submit, upload

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_codec import Grey
    from shared.image_store import Bucket, NatsImageStore
    from tests.benchmarks.measuring.meter import Table
    from tests.gateway import Client
    from tests.running import Desk

STROKES, SPOT_PX = 20, 100
SHARE_BYTES = 100_000_000  # the one owner's share for results: three quarters of a quarter of the pictures
pytestmark = pytest.mark.timeout(600)
ample = pytest.mark.parametrize("stream_settings", [StreamSettings(picture_bytes=4 * 1024**3)])
scarce = pytest.mark.parametrize("stream_settings", [StreamSettings(picture_bytes=SHARE_BYTES * 16 // 3)])


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


@ample
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


@scarce
async def test_twenty_spots_in_a_small_share(
    client: Client, desk: Desk, bus: Bus, nats_url: str, stream_settings: StreamSettings, table: Table
) -> None:
    """Count the steps that can be opened besides those that are stored whole, and measure the time."""
    image, results = await upload(client, encode_jpeg(grainy_photo(12), 92)), dict[str, str]()
    masks = [await upload(client, encode_png(spot(number))) for number in range(STROKES)]
    async with desk.manager(), desk.worker("classical"):
        for mask in masks:
            job_id = await submit(client, image=image, mask=mask)
            image = results[job_id] = (await desk.done(job_id)).result.sha256
    whole = {sha256 for sha256 in results.values() if await is_whole(bus, sha256)}
    stored_ms, assembled_ms, again_ms = list[float](), list[float](), list[float]()
    opened, spent_s = 0, 0.0
    async with beside(bus, NAME, run, Settings(nats=NatsSettings(url=nats_url), streams=stream_settings)):
        for job_id, sha256 in results.items():
            began, worked = time.perf_counter(), time.process_time()
            answer = await client.get(f"/v1/jobs/{job_id}/result")
            took_ms = 1000 * (time.perf_counter() - began)
            (stored_ms if sha256 in whole else assembled_ms).append(took_ms)
            spent_s += 0 if sha256 in whole else time.process_time() - worked
            opened += answer.is_success and hashlib.sha256(answer.content).hexdigest() == sha256
            if sha256 not in whole:
                began = time.perf_counter()
                await client.get(f"/v1/jobs/{job_id}/result")
                again_ms.append(1000 * (time.perf_counter() - began))

    table.row("steps that can be opened", opened, "", baseline=len(whole), more_is_better=True)
    table.row("a step that is assembled, median", median(assembled_ms), "ms", baseline=median(stored_ms))
    table.row("the same step once more, median", median(again_ms), "ms", baseline=median(stored_ms))
    table.row("the slowest one", max(assembled_ms), "ms", baseline=median(stored_ms))
    table.row("its processor time, mean", 1000 * spent_s / len(assembled_ms), "ms")


async def is_whole(bus: Bus, sha256: str) -> bool:
    """Return whether the whole result is stored."""
    return (await ObjectBuckets(bus).find("results", sha256)).entry is not None


async def _is_needed() -> bool:
    return False
