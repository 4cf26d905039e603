"""The bytes and the time of a patch beside those of the whole result, from the request to decoded pixels."""

from __future__ import annotations

import io
import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from services.a100worker.backend import Edit, WhiteBalanceInputs
from services.a100worker.job.inputs import Decoded
from services.a100worker.job.outputs import encode
from shared.image_codec import Photo, encode_jpeg, encode_png
from tests.benchmarks.test_edit import SIZES, enlarged_photo, median_ms, spot
from tests.v1_client import upload

if TYPE_CHECKING:
    from shared.image_codec import Rgb
    from tests.benchmarks.measuring.meter import Table
    from tests.gateway import Client
    from tests.running import Desk

pytestmark = pytest.mark.timeout(600)
ROUNDS = 5
SPOT_PX = 400
GRAIN = 4.0  # levels: a photo of a sensor has some, which PNG does not compress


def grainy_photo(megapixels: int) -> Rgb:
    """Return a photo with the grain of a sensor."""
    smooth = enlarged_photo(SIZES[megapixels])
    grain = np.random.default_rng(1).normal(0, GRAIN, smooth.shape).astype(np.float32)
    return np.asarray(np.clip(smooth + grain, 0, 255), np.uint8)


@pytest.mark.parametrize("megapixels", [12, 48])
async def test_the_download_of_a_patch(client: Client, desk: Desk, table: Table, megapixels: int) -> None:
    """A spot of 400 px in a photo, on loopback: a network adds the time of the bytes."""
    photo, mask = grainy_photo(megapixels), spot(SIZES[megapixels], SPOT_PX)
    names = [await upload(client, data) for data in (encode_jpeg(photo, 92), encode_png(mask))]
    order = {"task": "removal", "image": names[0], "mask": names[1]}
    async with desk.manager(), desk.worker("classical"):
        job_id = (await client.post("/v1/jobs", json=order)).json()["id"]
        await desk.done(job_id)
    figures = {}
    for query in ("", "?patch=true"):
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            data = (await client.get(f"/v1/jobs/{job_id}/result{query}")).content
            np.asarray(Image.open(io.BytesIO(data)))
            times.append(1000 * (time.perf_counter() - began))
        figures[query] = len(data), median(times)
    (whole_bytes, whole_ms), (patch_bytes, patch_ms) = figures.values()

    table.row(f"bytes of a patch, {megapixels} MP", patch_bytes / 1e6, "MB", baseline=whole_bytes / 1e6)
    table.row(f"a patch to decoded pixels, {megapixels} MP", patch_ms, "ms", target=100.0, baseline=whole_ms)


@pytest.mark.parametrize("megapixels", [12, 48])
def test_the_encoding_of_a_patch(table: Table, megapixels: int) -> None:
    """Measure the time that a patch adds to the worker's encoding of the whole result."""
    photo = Photo(grainy_photo(megapixels))
    inputs = Decoded(WhiteBalanceInputs(image=photo.rgb, fetch_balanced=lambda: photo.rgb), photo, [])
    edit = Edit(photo.rgb, spot(SIZES[megapixels], SPOT_PX))
    whole_ms = median_ms(lambda: encode_png(photo.rgb))
    both_ms = median_ms(lambda: encode(edit, inputs, {}))

    table.row(f"encoding with checks and a patch, {megapixels} MP", both_ms, "ms", baseline=whole_ms)
