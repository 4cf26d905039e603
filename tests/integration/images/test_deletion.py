"""Owners delete their images and jobs: deleted data, data that stays for others, and concurrent requests."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from services.a100worker.job.results import File, drop_late_results, store_result
from services.gateway.access.ownership import StoredOwnership
from services.gateway.core.stores import Stores
from services.gateway.core.uploads import Uploads
from shared import subjects
from shared.errors import ImageNotFound
from shared.image_codec import decode_photo
from shared.messages import JobClass, JobSubmit, JobWork, Task
from shared.settings import NatsSettings
from shared.topology import JOB_LOG, OWNED, bucket_stream
from tests.gateway import WorkerByHand, mask_png, png
from tests.integration.keyed import keyed_gateway
from tests.v1_client import UNKNOWN, removal, submit, upload
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from services.gateway.decoding.decoders import Decoders
    from shared.bus import Bus
    from shared.image_store import Bucket, NatsImageStore
    from shared.messages import ImageRef
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.integration.keyed import House

RESULT = png("red")


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Run a gateway that requires keys."""
    assert bus.is_connected
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path, result_wait_s=0.3) as house:
        yield house


@pytest.fixture
def worker(bus: Bus, images: NatsImageStore) -> WorkerByHand:
    """Return a worker for Alice's jobs."""
    return WorkerByHand(bus, images, "alice")


async def chunks(bus: Bus, bucket: Bucket) -> int:
    return await bus.count(bucket_stream(bucket), subjects.object_chunks(bucket, ">"))


async def bytes_go(bus: Bus, bucket: Bucket) -> None:
    """Wait until the bucket holds no image's bytes."""

    async def is_empty() -> bool:
        return await chunks(bus, bucket) == 0

    await wait_until(is_empty, f"the bytes in {bucket} are gone")


async def found(client: Client, path: str) -> list[int]:
    return [(await client.head(path)).status_code, (await client.get(path)).status_code]


# --- images -------------------------------------------------------------------------------------------------------


async def test_a_deleted_image_is_gone(client: Client, bus: Bus) -> None:
    """On an open gateway too; and it can be uploaded again."""
    photo = await upload(client, png())
    path = f"/v1/images/{photo}"
    answers = [(await client.delete(path)).status_code, (await client.delete(path)).status_code]
    gone = await found(client, path)
    await bytes_go(bus, "inputs")
    refused = await client.post("/v1/jobs", json={"task": "white-balance", "image": photo})

    assert answers == [204, 404]
    assert gone == [404, 404]
    assert refused.status_code == 422
    assert (await client.post("/v1/images", content=png())).status_code == 201
    assert await found(client, path) == [200, 200]


@pytest.mark.parametrize("name", [UNKNOWN, "*", ">", "a.b", "x" * 65])
async def test_what_is_not_there_cannot_be_deleted(house: House, name: str) -> None:
    """No name reaches further than one image."""
    photo = await upload(house.alice, png())

    assert (await house.alice.delete(f"/v1/images/{name}")).status_code == 404
    assert await found(house.alice, f"/v1/images/{photo}") == [200, 200]


async def test_two_owners_have_one_image(house: House, bus: Bus) -> None:
    """A deletion takes the image from one of them; the bytes go with the last one."""
    path = f"/v1/images/{await upload(house.alice, png())}"
    foreign = (await house.bob.delete(path)).status_code
    await upload(house.bob, png())
    deleted = (await house.alice.delete(path)).status_code
    after_alice = [await found(house.alice, path), await found(house.bob, path)]

    assert (foreign, deleted) == (404, 204)
    assert after_alice == [[404, 404], [200, 200]]
    assert (await house.bob.delete(path)).status_code == 204
    await bytes_go(bus, "inputs")


async def test_a_job_keeps_its_images_until_it_ends(house: House, bus: Bus, images: NatsImageStore) -> None:
    """The owner no longer sees them; the worker does."""
    order = await removal(house.alice)
    job_id = await submit(house.alice)
    paths = [f"/v1/images/{order[field]}" for field in ("image", "mask")]
    deleted = [(await house.alice.delete(path)).status_code for path in paths]
    seen = [await found(house.alice, path) for path in paths]
    kept = [await images.get("inputs", order[field]) for field in ("image", "mask")]
    await house.alice.delete(f"/v1/jobs/{job_id}")

    assert deleted == [204, 204]
    assert seen == [[404, 404]] * 2
    assert kept == [png(), mask_png()]
    await bytes_go(bus, "inputs")


@pytest.mark.parametrize("field", ["image", "mask"])
async def test_a_job_is_refused_whose_image_another_replica_deletes(
    house: House, nats_url: str, stream_settings: StreamSettings, tmp_path: Path, field: str
) -> None:
    """This gateway has used the image within the last minute and still believes in it."""
    order = await removal(house.alice)
    await house.alice.post("/v1/jobs", json=order)
    (tmp_path / "replica").mkdir()
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path / "replica") as replica:
        assert (await replica.alice.delete(f"/v1/images/{order[field]}")).status_code == 204

    refused = await house.alice.post("/v1/jobs", json={**order, "seed": 7})

    assert (refused.status_code, refused.json()["code"]) == (422, "image_not_found")


async def test_an_image_is_left_to_the_last_job_that_names_it(
    house: House, bus: Bus, images: NatsImageStore, nats_url: str, stream_settings: StreamSettings, tmp_path: Path
) -> None:
    """Another replica deletes it while two jobs wait, so the gateway of the jobs learns it from their entries alone."""
    order = await removal(house.alice)
    jobs = [(await house.alice.post("/v1/jobs", json={**order, "seed": seed})).json()["id"] for seed in (1, 2)]
    (tmp_path / "replica").mkdir()
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path / "replica") as replica:
        assert (await replica.alice.delete(f"/v1/images/{order['image']}")).status_code == 204

    async def is_released() -> bool:
        entry = await bus.last(OWNED, subjects.waiting_job("alice", jobs[0]))
        return entry is not None and entry.data == b""

    async def is_deleted() -> bool:
        return await images.head("inputs", order["image"]) is None

    await house.alice.delete(f"/v1/jobs/{jobs[0]}")
    await wait_until(is_released, "the first job is released")
    kept = await images.get("inputs", order["image"])
    await house.alice.delete(f"/v1/jobs/{jobs[1]}")
    await wait_until(is_deleted, "the end of the second job deletes the image")

    assert kept == png()
    assert await images.get("inputs", order["mask"]) == mask_png()


async def test_uploads_and_deletions_at_once_end_in_a_right_state(
    bus: Bus, images: NatsImageStore, decoders: Decoders
) -> None:
    """Either the owner has the image with all its bytes, or the owner has none; and the other owner always has it."""
    replicas = []
    for _ in range(3):
        ownership = StoredOwnership(bus)
        stores = Stores(bus, images, ownership, share=1.0)
        replicas.append((ownership, stores, Uploads(images, ownership, stores, decoders)))
    photo = await replicas[0][2].read_bytes(png(), "Image")
    sha256 = photo.ref.sha256

    async def delete(stores: Stores, owner: str) -> None:
        with contextlib.suppress(ImageNotFound):
            await stores.remove_image(owner, sha256)

    for _ in range(20):
        await asyncio.gather(
            replicas[0][2].store("alice", photo),
            delete(replicas[1][1], "alice"),
            replicas[2][2].store("bob", photo),
        )
        for owner in ("alice", "bob"):
            if await StoredOwnership(bus).owns_image(owner, sha256):
                assert await images.get("inputs", sha256) == png()
        assert await StoredOwnership(bus).owns_image("bob", sha256)
        await asyncio.gather(delete(replicas[0][1], "alice"), delete(replicas[1][1], "bob"))
    await bytes_go(bus, "inputs")


# --- jobs ---------------------------------------------------------------------------------------------------------


async def test_a_deleted_job_leaves_a_tombstone(house: House, worker: WorkerByHand, bus: Bus) -> None:
    """Its result, its events' previews and its prompt are gone. Its owner gets 410, anybody else 404."""
    job_id = await submit(house.alice, prompt="the secret wish")
    await worker.queue(job_id)
    await worker.finish(job_id, RESULT)
    path = f"/v1/jobs/{job_id}"
    foreign = (await house.bob.delete(path, params={"purge": "true"})).status_code
    answer = await house.alice.delete(path, params={"purge": "true"})
    reads = [await house.alice.get(f"{path}{part}") for part in ("", "/result", "/receipt", "/events")]
    again = await house.alice.delete(path, params={"purge": "true"})

    assert (foreign, answer.status_code, answer.content) == (404, 204, b"")
    assert [read.status_code for read in reads] == [410] * 4
    assert (again.status_code, again.json()["code"]) == (410, "deleted")
    assert (await house.bob.get(path)).status_code == 404
    assert (await house.alice.get(f"/api/generate/status/{job_id}")).status_code == 404
    assert (await house.alice.get("/v1/jobs")).json()["jobs"] == []
    assert await bus.first(JOB_LOG, subjects.submissions_of(job_id)) is None
    await bytes_go(bus, "results")


async def test_a_deletion_that_was_interrupted_is_finished_by_the_next(
    house: House, worker: WorkerByHand, bus: Bus
) -> None:
    """The gateway was killed after the tombstone: the owner gets 410, and the deletion is completed."""
    job_id = await submit(house.alice, prompt="the secret wish")
    await worker.queue(job_id)
    await worker.finish(job_id, RESULT)
    await bus.publish(subjects.purged_job("alice", job_id), b"deleted")
    path = f"/v1/jobs/{job_id}"
    foreign = (await house.bob.delete(path, params={"purge": "true"})).status_code
    stored = await chunks(bus, "results")
    answer = await house.alice.delete(path, params={"purge": "true"})

    assert (foreign, stored, answer.status_code) == (404, 1, 410)
    assert await bus.first(JOB_LOG, subjects.submissions_of(job_id)) is None
    await bytes_go(bus, "results")


async def test_the_key_of_a_deleted_job_is_gone(house: House, worker: WorkerByHand) -> None:
    """It neither runs the job again nor stands for another one."""
    order, key = await removal(house.alice), {"Idempotency-Key": "k1"}
    job_id = (await house.alice.post("/v1/jobs", json=order, headers=key)).json()["id"]
    await worker.queue(job_id)
    await worker.finish(job_id, RESULT)
    await house.alice.delete(f"/v1/jobs/{job_id}", params={"purge": "true"})
    answers = [
        await house.alice.post("/v1/jobs", json=body, headers=key) for body in (order, {**order, "prompt": "other"})
    ]

    assert [answer.status_code for answer in answers] == [410, 410]
    assert (await house.bob.post("/v1/jobs", json=await removal(house.bob), headers=key)).status_code == 202


@pytest.mark.parametrize("has_started", [False, True])
async def test_a_job_that_has_not_ended_is_cancelled_first(
    house: House, worker: WorkerByHand, *, has_started: bool
) -> None:
    """Queued or running."""
    job_id = await submit(house.alice)
    await worker.queue(job_id)
    if has_started:
        await worker.start(job_id)
    answer = await house.alice.delete(f"/v1/jobs/{job_id}", params={"purge": "true"})

    assert answer.status_code == 204
    assert await worker.ends(job_id) == ["cancelled"]
    assert (await house.alice.get(f"/v1/jobs/{job_id}")).status_code == 410


async def test_equal_results_go_with_the_last_job(house: House, bus: Bus, images: NatsImageStore) -> None:
    """Two owners made the same edit of the same picture."""
    for name, client in (("alice", house.alice), ("bob", house.bob)):
        job_id = await submit(client)
        work, hand = work_of(name, job_id), WorkerByHand(bus, images, name)
        await hand.queue(job_id)
        await store_result(bus, images, work, as_file(RESULT))
        await hand.finish(job_id, RESULT)
        if name == "alice":
            first = job_id
    await house.alice.delete(f"/v1/jobs/{first}", params={"purge": "true"})
    kept = await house.bob.get(f"/v1/jobs/{job_id}/result")
    await house.bob.delete(f"/v1/jobs/{job_id}", params={"purge": "true"})

    assert kept.content == RESULT
    await bytes_go(bus, "results")


def as_file(data: bytes) -> File:
    height, width = decode_photo(data).rgb.shape[:2]
    return File(data, width, height)


def work_of(user: str, job_id: str) -> JobWork:
    order = JobSubmit(task=Task.REMOVAL, image=UNKNOWN, mask=UNKNOWN)
    return JobWork(job_id=job_id, user=user, job_class=JobClass.INTERACTIVE, log_seq=1, submit=order)


class DeletingStore:
    """A worker's store that runs an act before or after the bytes of a result are stored."""

    def __init__(self, images: NatsImageStore, before: Any, after: Any) -> None:
        self._images = images
        self._before = before
        self._after = after
        self.get, self.head = images.get, images.head

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None, *, force: bool = False) -> ImageRef:
        """See ImageStore."""
        await self._before()
        stored = await self._images.put(bucket, data, ref, force=force)
        await self._after()
        return stored


@pytest.mark.parametrize("place", ["before the bytes", "after the bytes"])
async def test_a_worker_removes_the_result_of_a_job_that_was_deleted_meanwhile(
    house: House, bus: Bus, images: NatsImageStore, worker: WorkerByHand, place: str
) -> None:
    """The worker stores its result while the owner deletes the job; neither a mark nor bytes remain."""
    job_id = await submit(house.alice)
    await worker.queue(job_id)
    await worker.start(job_id)

    async def delete() -> None:
        await house.alice.delete(f"/v1/jobs/{job_id}", params={"purge": "true"})

    async def nothing() -> None:
        pass

    acts = (delete, nothing) if place == "before the bytes" else (nothing, delete)
    work = work_of("alice", job_id)
    await store_result(bus, DeletingStore(images, *acts), work, as_file(RESULT))
    await drop_late_results(bus, images, work)

    marks = await bus.history(OWNED, subjects.result_marks_of_job("alice", job_id))
    assert [mark.data for mark in marks] == [b""]
    assert await worker.ends(job_id) == ["cancelled"]
    await bytes_go(bus, "results")


async def test_a_late_result_leaves_the_jobs_own(bus: Bus, images: NatsImageStore, worker: WorkerByHand) -> None:
    """An attempt that was taken for lost finishes after another one."""
    work, late = work_of("alice", "j1"), png("green")
    await store_result(bus, images, work, as_file(RESULT))
    await worker.queue("j1")
    await worker.finish("j1", RESULT)
    ref = await store_result(bus, images, work, as_file(late))
    await drop_late_results(bus, images, work)

    assert await images.head("results", ref.sha256) is None
    assert await chunks(bus, "results") == 1
