"""Results and receipts of whole edits through a real job manager and worker."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from shared import subjects
from shared.image_store import StoredImages
from shared.marks import mark_result
from shared.messages import ImageRef
from shared.topology import bucket_stream
from tests.gateway import mask_png, png
from tests.running import script
from tests.v1_client import parse_event, removal, submit, upload
from tests.waiting import wait_until

if TYPE_CHECKING:
    from shared.bus import Bus
    from tests.gateway import Client, WorkerByHand
    from tests.running import Desk


async def _nobody() -> bool:
    return False


async def finished(client: Client, worker: WorkerByHand) -> tuple[str, bytes]:
    """Return a finished job's id and its result."""
    job_id, picture = await submit(client), png("orange", size=(90, 70))
    await worker.finish(job_id, picture)
    return job_id, picture


# --- the picture --------------------------------------------------------------------------------------------------


async def test_the_result_is_the_workers_picture(client: Client, worker: WorkerByHand) -> None:
    """Byte for byte, with headers for a browser's cache, because a result never changes."""
    job_id, picture = await finished(client, worker)

    answer = await client.get(f"/v1/jobs/{job_id}/result")

    assert (answer.status_code, answer.content) == (200, picture)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == f'"{hashlib.sha256(picture).hexdigest()}"'
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert answer.headers["accept-ranges"] == "bytes"


async def test_a_copy_serves_where_the_result_has_made_room(client: Client, worker: WorkerByHand, bus: Bus) -> None:
    """At every address of the result."""
    job_id, picture = await finished(client, worker)
    sha256 = await upload(client, picture)
    await StoredImages(bus).remove("results", sha256, _nobody)
    paths = (
        f"/v1/jobs/{job_id}/result", f"/v1/jobs/{job_id}/result?patch=true", f"/api/generate/result-image/{job_id}",
        f"/api/visualization/{job_id}/generated",
    )  # fmt: skip
    answers = [await client.get(path) for path in paths]
    archive = await client.get(f"/api/visualization/{job_id}/download")

    assert [answer.content for answer in answers] == [picture] * len(paths)
    assert picture in archive.content


async def test_what_would_be_downloaded_can_be_looked_at_first(client: Client, worker: WorkerByHand) -> None:
    """HEAD has the headers of GET, and no body."""
    job_id, _ = await finished(client, worker)
    url = f"/v1/jobs/{job_id}/result"
    described = ("content-type", "content-length", "etag", "accept-ranges", "cache-control")

    head, answer = await client.head(url), await client.get(url)

    assert (head.status_code, head.content) == (200, b"")
    assert [head.headers[name] for name in described] == [answer.headers[name] for name in described]


async def test_a_download_can_be_taken_up_again(client: Client, worker: WorkerByHand) -> None:
    """Two ranges together are the whole image."""
    job_id, picture = await finished(client, worker)
    url = f"/v1/jobs/{job_id}/result"
    first = await client.get(url, headers={"Range": "bytes=0-99"})
    second = await client.get(url, headers={"Range": "bytes=100-", "If-Range": first.headers["etag"]})

    assert (first.status_code, second.status_code) == (206, 206)
    assert first.headers["content-range"] == f"bytes 0-99/{len(picture)}"
    assert first.content + second.content == picture


async def test_a_range_behind_the_end_is_416(client: Client, worker: WorkerByHand) -> None:
    """The response has the size."""
    job_id, picture = await finished(client, worker)

    answer = await client.get(f"/v1/jobs/{job_id}/result", headers={"Range": "bytes=999999-"})

    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(picture)}"


async def test_a_result_that_is_kept_already_is_not_sent_again(client: Client, worker: WorkerByHand) -> None:
    """The request has If-None-Match."""
    job_id, picture = await finished(client, worker)
    etag = f'"{hashlib.sha256(picture).hexdigest()}"'

    answer = await client.get(f"/v1/jobs/{job_id}/result", headers={"If-None-Match": etag})

    assert (answer.status_code, answer.content) == (304, b"")


async def test_a_result_that_made_room_is_read_from_its_copy(bus: Bus, client: Client, worker: WorkerByHand) -> None:
    """The next edit has a copy of it. Without one it is gone."""
    job_id, picture = await finished(client, worker)
    sha256 = await upload(client, picture)
    await StoredImages(bus).remove("results", sha256, _nobody)
    copied = [await client.get(f"/v1/jobs/{job_id}/result{query}") for query in ("", "?patch=true")]
    await client.delete(f"/v1/images/{sha256}")
    gone = await client.get(f"/v1/jobs/{job_id}/result")

    assert [(answer.status_code, answer.content) for answer in copied] == [(200, picture)] * 2
    assert gone.status_code == 404


async def test_an_old_result_begins_an_edit(bus: Bus, client: Client, worker: WorkerByHand) -> None:
    """The gateway does not store a result again, as it does with an upload that is past half its life."""
    job_id, picture = await finished(client, worker)
    sha256 = hashlib.sha256(picture).hexdigest()
    ref = ImageRef(bucket="results", sha256=sha256, content_type="image/png", width=90, height=70, size_bytes=1)
    await mark_result(bus, "local", job_id, ref)
    subject = subjects.object_entry("results", base64.urlsafe_b64encode(sha256.encode()).decode())
    stored = await bus.last(bucket_stream("results"), subject)
    assert stored is not None
    entry = json.loads(stored.data) | {"mtime": "2020-01-01T00:00:00+00:00"}
    before = await bus.publish(subject, json.dumps(entry).encode(), headers={"Nats-Rollup": "sub"})

    submitted = await client.post("/v1/jobs", json=await removal(client, image=sha256))
    after = await bus.last(bucket_stream("results"), subject)

    assert submitted.status_code == 202
    assert after is not None
    assert after.seq == before


@pytest.mark.parametrize("what", ["result", "receipt"])
async def test_before_the_end_there_is_none(client: Client, what: str) -> None:
    """The response is an immediate 409."""
    answer = await client.get(f"/v1/jobs/{await submit(client)}/{what}")

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize("what", ["result", "receipt"])
async def test_a_failed_job_has_none(client: Client, worker: WorkerByHand, what: str) -> None:
    """The response is 410 with the cause."""
    job_id = await submit(client)
    await worker.fail(job_id, "The engine gave up.")

    answer = await client.get(f"/v1/jobs/{job_id}/{what}")

    assert answer.status_code == 410
    assert (answer.json()["code"], answer.json()["detail"]) == ("job_failed", "The engine gave up.")


@pytest.mark.parametrize("what", ["result", "receipt"])
async def test_a_cancelled_job_has_none(client: Client, what: str) -> None:
    """The response is 410 with one sentence."""
    job_id = await submit(client)
    await client.delete(f"/v1/jobs/{job_id}")

    answer = await client.get(f"/v1/jobs/{job_id}/{what}")

    assert (answer.status_code, answer.json()["code"]) == (410, "cancelled")
    assert answer.json()["detail"].endswith(".")


@pytest.mark.parametrize("what", ["result", "receipt"])
async def test_an_unknown_job_is_404(client: Client, what: str) -> None:
    """The error is problem details."""
    answer = await client.get(f"/v1/jobs/nope/{what}")

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


# --- whole edits --------------------------------------------------------------------------------------------------


async def test_a_removal_from_the_upload_to_the_receipt(client: Client, desk: Desk) -> None:
    """No pixel outside the mask changes, and the receipt has this fact and the hashes of inputs and result."""
    submission = await removal(client, seed=7, steps=5)
    async with desk.manager(), desk.worker():
        job_id = (await client.post("/v1/jobs", json=submission)).json()["id"]
        async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
            last = parse_event((await stream.rest())[-1])
        picture = (await client.get(f"/v1/jobs/{job_id}/result")).content
        receipt = (await client.get(f"/v1/jobs/{job_id}/receipt")).json()

    assert last.name == "done"
    assert receipt["inputs"] == {"image": submission["image"], "mask": submission["mask"]}
    assert receipt["output"] == last.facts["result"]["sha256"] == hashlib.sha256(picture).hexdigest()
    assert (receipt["seed"], receipt["steps"], receipt["engine"]) == (7, 5, "scripted")
    assert (receipt["pixels_changed_outside_mask"], receipt["attempt"], receipt["replay_of"]) == (0, 1, None)
    assert receipt["timings_ms"].keys() == {"fetch", "edit", "store"}
    assert receipt["created_at"] < receipt["finished_at"]


async def test_a_result_can_be_edited_further(client: Client, desk: Desk) -> None:
    """The result is uploaded like any image."""
    async with desk.manager(), desk.worker():
        first = await submit(client)
        await desk.done(first)
        picture = (await client.get(f"/v1/jobs/{first}/result")).content
        second = await submit(client, image=await upload(client, picture))
        await desk.done(second)

    assert (await client.get(f"/v1/jobs/{second}/result")).status_code == 200


async def test_an_insertion_with_an_empty_reference_mask_runs(client: Client, desk: Desk) -> None:
    """An empty reference mask means the whole reference."""
    reference, nothing = await upload(client, png("red")), await upload(client, mask_png(box=None))
    async with desk.manager(), desk.worker("classical"):
        job_id = await submit(client, task="insertion", reference=reference, reference_mask=nothing)
        done = await desk.done(job_id)

    assert done.changed_outside_px == 0


async def test_a_running_job_is_stopped(client: Client, desk: Desk) -> None:
    """The worker stops at its next step, and the list shows the job as cancelled."""
    async with desk.manager(), desk.worker():
        job_id = await submit(client, prompt=script(3600, 50))
        await desk.started(job_id)
        await client.delete(f"/v1/jobs/{job_id}")
        second = await submit(client)
        await desk.done(second)

        async def is_listed() -> bool:
            page = (await client.get("/v1/jobs")).json()
            shown = [(job["id"], job["status"]) for job in page["jobs"]]
            return shown == [(second, "done"), (job_id, "cancelled")]

        await wait_until(is_listed, "both are listed as they ended")


async def test_the_next_edit_begins_from_a_result(client: Client, desk: Desk) -> None:
    """The job names the result by its hash, without another upload, like any image of the owner."""
    async with desk.manager(), desk.worker():
        job_id = await submit(client)
        await desk.done(job_id)
        result = (await client.get(f"/v1/jobs/{job_id}")).json()["result"]["sha256"]
        further = await submit(client, image=result)
        await desk.done(further)
    stored = await client.get(f"/v1/images/{result}")

    assert stored.content == (await client.get(f"/v1/jobs/{job_id}/result")).content
