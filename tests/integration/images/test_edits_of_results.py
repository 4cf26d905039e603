"""An edit begins from an earlier result without a copy: its readers, its marks, and its end."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING

import pytest

from services.a100worker.job.results import File, drop_late_results, store_result
from services.gateway.access.ownership import StoredOwnership
from services.gateway.core.stores import Stores
from shared import subjects
from shared.errors import ImageNotFound
from shared.marks import unmark_result
from shared.messages import JobClass, JobSubmit, JobWork, Task
from shared.settings import NatsSettings
from shared.topology import bucket_stream
from tests.gateway import WorkerByHand, png
from tests.integration.keyed import keyed_gateway
from tests.v1_client import UNKNOWN, submit
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.image_store import Bucket, NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.integration.keyed import House
    from tests.running import Desk

SIZE = (64, 48)
RESULT = png("red", SIZE)


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Run a gateway that requires keys."""
    assert bus.is_connected
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path) as house:
        yield house


def work_of(job_id: str) -> JobWork:
    order = JobSubmit(task=Task.REMOVAL, image=UNKNOWN, mask=UNKNOWN)
    return JobWork(job_id=job_id, user="alice", job_class=JobClass.INTERACTIVE, log_seq=1, submit=order)


async def edit_once(house: House, bus: Bus, images: NatsImageStore) -> tuple[str, str]:
    """Finish an edit of Alice's; return the job and the hash of its result."""
    job_id, hand = await submit(house.alice), WorkerByHand(bus, images, "alice")
    await hand.queue(job_id)
    ref = await store_result(bus, images, work_of(job_id), File(RESULT, *SIZE))
    await hand.finish(job_id, RESULT)
    return job_id, ref.sha256


async def submit_further(house: House, bus: Bus, images: NatsImageStore, sha256: str) -> str:
    """Submit an edit of a result, and queue it as the job manager does."""
    job_id = await submit(house.alice, image=sha256)
    await WorkerByHand(bus, images, "alice").queue(job_id)
    return job_id


async def has_copy(bus: Bus, bucket: Bucket, sha256: str) -> bool:
    """Return whether the bucket itself has an entry of the image."""
    entry = await bus.last(bucket_stream(bucket), entry_of(bucket, sha256))
    return entry is not None and not json.loads(entry.data).get("deleted")


def entry_of(bucket: Bucket, sha256: str) -> str:
    return subjects.object_entry(bucket, base64.urlsafe_b64encode(sha256.encode()).decode())


async def goes(bus: Bus, bucket: Bucket, sha256: str) -> None:
    """Wait until the bucket has no entry of the image."""

    async def is_gone() -> bool:
        return not await has_copy(bus, bucket, sha256)

    await wait_until(is_gone, f"the image is gone from {bucket}")


async def purge(client: Client, job_id: str) -> int:
    return (await client.delete(f"/v1/jobs/{job_id}", params={"purge": "true"})).status_code


async def test_a_result_is_edited_without_a_copy(house: House, bus: Bus, images: NatsImageStore) -> None:
    """Every reader of inputs finds it in the results. For other owners it is no image."""
    _, sha256 = await edit_once(house, bus, images)
    path = f"/v1/images/{sha256}"
    before = [(await house.alice.get(path)).content, (await house.alice.head(path)).headers["content-length"]]
    foreign = [(await house.bob.get(path)).status_code, (await house.bob.delete(path)).status_code]
    refused = await house.bob.post("/v1/jobs", json={"task": "white-balance", "image": sha256})
    await submit_further(house, bus, images, sha256)
    pieces = [piece async for piece in images.stream("inputs", sha256)]
    ref = await images.head("inputs", sha256)

    assert before == [RESULT, str(len(RESULT))]
    assert (foreign, refused.status_code) == ([404, 404], 422)
    assert await images.get("inputs", sha256) == b"".join(pieces) == RESULT
    assert ref == await images.describe(sha256)
    assert ref is not None
    assert ref.bucket == "results"
    assert not await has_copy(bus, "inputs", sha256)


async def test_a_result_stays_until_the_last_edit_of_it_ends(house: House, bus: Bus, images: NatsImageStore) -> None:
    """Its own job is deleted meanwhile: the owner no longer sees it, and the worker does."""
    first, sha256 = await edit_once(house, bus, images)
    further = [await submit_further(house, bus, images, sha256) for _ in range(2)]
    deleted = await purge(house.alice, first)
    shown = (await house.alice.get(f"/v1/images/{sha256}")).status_code
    await house.alice.delete(f"/v1/jobs/{further[0]}")
    seen_by_worker = await images.get("inputs", sha256)
    await house.alice.delete(f"/v1/jobs/{further[1]}")

    assert (deleted, shown) == (204, 404)
    assert seen_by_worker == RESULT
    await goes(bus, "results", sha256)


async def test_a_deleted_result_begins_no_edit(house: House, bus: Bus, images: NatsImageStore) -> None:
    """Also where this gateway has seen it within the last minute."""
    first, sha256 = await edit_once(house, bus, images)
    further = await submit_further(house, bus, images, sha256)
    await house.alice.delete(f"/v1/jobs/{further}")
    await purge(house.alice, first)
    refused = await house.alice.post("/v1/jobs", json={"task": "white-balance", "image": sha256})

    assert (refused.status_code, refused.json()["code"]) == (422, "image_not_found")
    await goes(bus, "results", sha256)


async def test_an_edit_and_a_deletion_at_the_same_time(bus: Bus, images: NatsImageStore) -> None:
    """On two replicas: the edit is refused, or has its picture until it ends. Then nothing is left."""
    deleting, submitting = [StoredOwnership(bus) for _ in range(2)]
    one, other = Stores(bus, images, deleting, share=1.0), Stores(bus, images, submitting, share=1.0)
    for number in range(20):
        ref = await store_result(bus, images, work_of(f"first{number}"), File(RESULT, *SIZE))
        order = JobSubmit(task=Task.WHITE_BALANCE, image=ref.sha256)
        answers = await asyncio.gather(
            other.keep_inputs("alice", f"next{number}", order),
            one.remove_results("alice", f"first{number}", None),
            return_exceptions=True,
        )
        assert [answer for answer in answers if not isinstance(answer, bool | ImageNotFound | None)] == []
        if answers[0] is True:
            assert await images.get("inputs", ref.sha256) == RESULT
        await other.release_job("alice", f"next{number}")
        await goes(bus, "results", ref.sha256)


async def test_a_result_is_deleted_with_its_job_alone(house: House, bus: Bus, images: NatsImageStore) -> None:
    """The answer says so. An upload of the same bytes is an image of its own."""
    _, sha256 = await edit_once(house, bus, images)
    path = f"/v1/images/{sha256}"
    refused = await house.alice.delete(path)
    stored = (await house.alice.post("/v1/images", content=RESULT)).status_code
    deleted = (await house.alice.delete(path)).status_code

    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "delete the job" in refused.json()["detail"]
    assert (stored, deleted) == (201, 204)
    assert await has_copy(bus, "results", sha256)
    await goes(bus, "inputs", sha256)


async def test_an_open_gateway_deletes_a_result_with_its_job_alone(
    client: Client, bus: Bus, images: NatsImageStore
) -> None:
    """The one owner of an open gateway may delete images without an upload, but not the result of a job."""
    job_id, hand = await submit(client), WorkerByHand(bus, images)
    await hand.queue(job_id)
    ref = await store_result(bus, images, work_of(job_id), File(RESULT, *SIZE))
    await hand.finish(job_id, RESULT)
    refused = await client.delete(f"/v1/images/{ref.sha256}")

    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (await client.get(f"/v1/images/{ref.sha256}")).content == RESULT


async def test_an_edit_that_ended_unseen_keeps_no_result(
    house: House, bus: Bus, images: NatsImageStore, nats_url: str, stream_settings: StreamSettings, tmp_path: Path
) -> None:
    """Its gateway was away when the edit ended, so its entry still names the result that is deleted now."""
    first, sha256 = await edit_once(house, bus, images)
    (tmp_path / "replica").mkdir()
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path / "replica") as replica:
        further = await submit(replica.alice, image=sha256)
    await house.alice.delete(f"/v1/jobs/{further}")
    deleted = await purge(house.alice, first)

    assert deleted == 204
    await goes(bus, "results", sha256)


async def test_a_late_result_leaves_the_input_of_a_waiting_edit(house: House, bus: Bus, images: NatsImageStore) -> None:
    """A cancelled attempt has made the same bytes, and no other owner's mark keeps them."""
    first, sha256 = await edit_once(house, bus, images)
    await submit_further(house, bus, images, sha256)
    late = await submit_further(house, bus, images, sha256)
    await house.alice.delete(f"/v1/jobs/{late}")
    await store_result(bus, images, work_of(late), File(RESULT, *SIZE))
    await unmark_result(bus, "alice", first, sha256)
    await drop_late_results(bus, images, work_of(late))

    assert await images.get("inputs", sha256) == RESULT


async def test_an_old_result_outlives_the_edit_of_it(
    house: House, bus: Bus, images: NatsImageStore, desk: Desk
) -> None:
    """The job manager copies it for as long as the job lasts, for a job from the gateway and for one by hand."""
    _, sha256 = await edit_once(house, bus, images)
    stored = await bus.last(bucket_stream("results"), entry_of("results", sha256))
    assert stored is not None
    entry = json.loads(stored.data) | {"mtime": "2020-01-01T00:00:00+00:00"}
    await bus.publish(stored.subject, json.dumps(entry).encode(), headers={"Nats-Rollup": "sub"})

    async def is_copied() -> bool:
        return await has_copy(bus, "inputs", sha256)

    async with desk.manager():
        for by_hand in (False, True):
            job_id = "hand" if by_hand else await submit(house.alice, image=sha256)
            if by_hand:
                await desk.submit(job_id, user="alice", image=sha256)
            await wait_until(is_copied, "the result is an input")
            ref = await images.head("inputs", sha256)
            assert ref is not None
            assert ref.bucket == "inputs"
            assert await desk.cancel(job_id)
            await goes(bus, "inputs", sha256)
