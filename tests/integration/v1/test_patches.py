"""A result as its changed rectangle: enough for a client that has the photo."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from shared import subjects
from shared.image_codec import decode_photo, encode_png
from shared.metrics import CACHE_LOOKUPS
from shared.topology import OWNED, bucket_stream
from tests.gateway import mask_png, png
from tests.v1_client import submit, upload

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from tests.gateway import Client, WorkerByHand
    from tests.running import Desk

PLACE = ("x-patch-x", "x-patch-y")


async def finished(client: Client, worker: WorkerByHand, images: NatsImageStore) -> tuple[str, bytes, bytes]:
    """Return a finished job's id, its result and its patch."""
    job_id, whole, patch = await submit(client), png("orange", size=(90, 70)), png("red", size=(20, 10))
    await worker.finish(job_id, whole, await images.put("results", patch))
    return job_id, whole, patch


async def test_a_patch_over_the_photo_is_the_result(client: Client, desk: Desk) -> None:
    """The receipt and the last event have the place too, and deleting the job deletes both pictures."""
    photo = np.random.default_rng(3).integers(0, 256, (120, 160, 3), np.uint8)
    order = {
        "task": "removal",
        "image": await upload(client, encode_png(photo)),
        "mask": await upload(client, mask_png((160, 120), (30, 40, 60, 70))),
    }
    async with desk.manager(), desk.worker():
        job_id = (await client.post("/v1/jobs", json=order)).json()["id"]
        done = await desk.done(job_id)
    url = f"/v1/jobs/{job_id}/result"
    whole, patch = (await client.get(url)).content, await client.get(url, params={"patch": "true"})
    receipt = (await client.get(f"/v1/jobs/{job_id}/receipt")).json()
    x, y = (int(patch.headers[name]) for name in PLACE)
    inner = np.asarray(Image.open(io.BytesIO(patch.content)))
    photo[y : y + inner.shape[0], x : x + inner.shape[1]] = inner

    assert np.array_equal(photo, decode_photo(whole).rgb)
    assert receipt["changed_box"] == [30, 40, 31, 31] == [x, y, *inner.shape[1::-1]]
    assert done.patch is not None
    assert done.patch.size_bytes == len(patch.content) < len(whole)


async def test_an_edit_of_a_result_reads_and_decodes_nothing(client: Client, desk: Desk) -> None:
    """The worker has its own results in memory, as their files and as pixels; the receipt names both edits."""
    names = {"image": await upload(client, png(size=(160, 120))), "mask": await upload(client, mask_png((160, 120)))}

    def looked_up(outcome: str) -> list[float]:
        counters = (CACHE_LOOKUPS.labels(cache, outcome) for cache in ("inputs", "decoded"))
        return [counter._value.get() for counter in counters]  # noqa: SLF001 (the library has no reader)

    async with desk.manager(), desk.worker():
        first = await submit(client, **names)
        result = (await desk.done(first)).result.sha256
        missed, hit = looked_up("miss"), looked_up("hit")
        second = await submit(client, **names | {"image": result})
        await desk.done(second)

    receipt = (await client.get(f"/v1/jobs/{second}/receipt")).json()
    assert looked_up("miss") == missed
    assert looked_up("hit") == [hit[0] + 2, hit[1] + 1]  # the mask is one of the files
    assert [(step["id"], step["output"]) for step in receipt["earlier"]] == [(first, result)]


async def test_a_deleted_job_leaves_no_patch(client: Client, desk: Desk, bus: Bus) -> None:
    """Neither bytes nor marks."""
    order = {"image": await upload(client, png(size=(160, 120))), "mask": await upload(client, mask_png((160, 120)))}
    async with desk.manager(), desk.worker():
        job_id = await submit(client, **order)
        assert (await desk.done(job_id)).patch is not None
        await client.delete(f"/v1/jobs/{job_id}", params={"purge": "true"})

    assert await bus.count(bucket_stream("results"), subjects.object_chunks("results", ">")) == 0
    assert [mark.data for mark in await bus.history(OWNED, "$KV.owned.*.results.>")] == [b"", b""]


async def test_a_patch_is_served_like_the_result(client: Client, worker: WorkerByHand, images: NatsImageStore) -> None:
    """With its own ETag, ranges, HEAD, and a 304 that has the place."""
    job_id, _, patch = await finished(client, worker, images)
    url = f"/v1/jobs/{job_id}/result?patch=true"
    answer, head = await client.get(url), await client.head(url)
    part = await client.get(url, headers={"Range": "bytes=9-"})
    kept = await client.get(url, headers={"If-None-Match": answer.headers["etag"]})

    assert (answer.status_code, answer.content) == (200, patch)
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert (part.status_code, part.content) == (206, patch[9:])
    assert (kept.status_code, head.status_code, head.content) == (304, 200, b"")
    assert head.headers["content-length"] == str(len(patch))
    assert [[each.headers[name] for name in PLACE] for each in (answer, head, part, kept)] == [["3", "5"]] * 4


async def test_without_a_patch_it_is_the_whole_result(
    client: Client, worker: WorkerByHand, images: NatsImageStore
) -> None:
    """This holds for a worker of an earlier release, and after the store has deleted the patch. Its place is 0, 0."""

    async def is_unneeded() -> bool:
        return False

    old, dropped = await submit(client), await finished(client, worker, images)
    await worker.finish(old, dropped[1])
    ref = await images.put("results", dropped[2])
    await images.remove("results", ref.sha256, is_unneeded)
    answers = [await client.get(f"/v1/jobs/{job_id}/result?patch=true") for job_id in (old, dropped[0])]

    assert [(answer.status_code, answer.content) for answer in answers] == [(200, dropped[1])] * 2
    assert [[answer.headers[name] for name in PLACE] for answer in answers] == [["0", "0"]] * 2


async def test_a_white_balance_has_none(client: Client, desk: Desk) -> None:
    """All of the photo is changed."""
    async with desk.manager(), desk.worker():
        job_id = await submit(client, task="white-balance", mask=None)
        done = await desk.done(job_id)
    answer = await client.get(f"/v1/jobs/{job_id}/result?patch=true")

    assert (done.changed_box, done.patch) == ((0, 0, done.result.width, done.result.height), None)
    assert (answer.status_code, answer.headers["etag"]) == (200, f'"{done.result.sha256}"')


@pytest.mark.parametrize("patch", ["maybe", ""])
async def test_what_is_neither_yes_nor_no_is_refused(client: Client, worker: WorkerByHand, patch: str) -> None:
    """The error is problem details."""
    job_id = await submit(client)
    await worker.finish(job_id)
    answer = await client.get(f"/v1/jobs/{job_id}/result", params={"patch": patch})

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_a_page_of_another_site_can_read_the_place(
    client: Client, worker: WorkerByHand, images: NatsImageStore
) -> None:
    """The studio on another port."""
    job_id, *_ = await finished(client, worker, images)
    answer = await client.get(f"/v1/jobs/{job_id}/result?patch=true", headers={"Origin": "http://localhost:5173"})

    exposed = answer.headers["access-control-expose-headers"].lower()
    assert all(name in exposed for name in PLACE)
