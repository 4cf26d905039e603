"""The owners' shares of the stores: the least recently used image is deleted first, never one of another owner."""

from __future__ import annotations

import contextlib
import hashlib
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import pytest

from services.gateway.access.ownership import SingleOwner, StoredOwnership
from services.gateway.core.durability import Durability
from services.gateway.core.fullness import FILL, Fullness
from services.gateway.core.stores import Stores
from services.gateway.core.system_health import SystemHealth
from services.gateway.core.uploads import Upload, Uploads
from services.gateway.core.workers import Workers
from services.gateway.decoding.decoders import Decoders
from shared import subjects
from shared.errors import Busy, ImageNotFound, StreamFull
from shared.marks import NEVER, Reservation, mark_result, write_mark
from shared.messages import Cancelled, ImageRef, JobSubmit, Queued, Task
from shared.settings import NatsSettings, StreamSettings
from shared.topology import JOB_EV, OWNED
from tests.gateway import WorkerByHand, mask_png, png
from tests.integration.keyed import keyed_gateway
from tests.running import Desk
from tests.v1_client import upload
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.image_store import Bucket, NatsImageStore
    from tests.integration.keyed import House

MIB = 1024**2
# Inputs 32 MiB and results 16 MiB; three quarters of a bucket can be used, and here half of that by one owner.
SHARE = 0.5
pytestmark = pytest.mark.parametrize("stream_settings", [StreamSettings(picture_bytes=64 * MIB)])


def picture(number: int, size_bytes: int = 3 * MIB) -> Upload:
    """Return an upload of this size. Nothing here decodes it."""
    data = number.to_bytes(4, "big") + bytes(size_bytes - 4)
    sha256 = hashlib.sha256(data).hexdigest()
    ref = ImageRef(
        bucket="inputs", sha256=sha256, content_type="image/png", width=600, height=400, size_bytes=len(data)
    )
    return Upload(data, ref)


class Replica:
    """The stores and uploads of one gateway."""

    def __init__(self, bus: Bus, images: NatsImageStore, *, is_open: bool = False) -> None:
        self.ownership = SingleOwner(bus) if is_open else StoredOwnership(bus)
        self.stores = Stores(bus, images, self.ownership, 1.0 if is_open else SHARE)
        self.uploads = Uploads(images, self.ownership, self.stores, Decoders(1))


@pytest.fixture
def replica(bus: Bus, images: NatsImageStore) -> Replica:
    """Return a gateway with keys."""
    return Replica(bus, images)


async def has(replica: Replica, owner: str, *numbers: int) -> list[bool]:
    return [await replica.uploads.find(owner, picture(number).ref.sha256) is not None for number in numbers]


async def submit(replica: Replica, owner: str, job_id: str, photo: str) -> None:
    """Make room for a job and keep its input, as a gateway does when it stores a job."""
    order = JobSubmit(task=Task.WHITE_BALANCE, image=photo)
    await replica.stores.make_room_for_result(owner, order)
    assert await replica.stores.keep_inputs(owner, job_id, order)


async def age(bus: Bus, owner: str, number: int, used_at: int) -> None:
    """Set the time at which an image was last used."""
    ref = picture(number).ref
    await bus.publish(subjects.image_ownership(owner, ref.sha256), write_mark(ref.size_bytes, used_at))


async def test_the_least_recently_used_upload_makes_room(bus: Bus, replica: Replica) -> None:
    """Of the same owner: 12 MiB are a share, and four images of 3 MiB fill it."""
    await replica.uploads.store("bob", picture(0))
    for number in range(4):
        await replica.uploads.store("alice", picture(number))
        await age(bus, "alice", number, used_at=[1000, 500, 2000, 3000][number])
    await replica.uploads.store("alice", picture(4))

    assert await has(replica, "alice", 0, 1, 2, 3, 4) == [True, False, True, True, True]
    assert await has(replica, "bob", 0) == [True]


async def test_the_copy_of_a_result_makes_room_before_a_photo(bus: Bus, replica: Replica) -> None:
    """A photo that is edited again and again is still there, although it was used least recently."""
    for number in range(4):
        await replica.uploads.store("alice", picture(number))
        await age(bus, "alice", number, used_at=1000 + number)
    for number, owner in ((2, "alice"), (1, "bob")):  # his mark does not matter
        await mark_result(bus, owner, "j1", picture(number).ref.model_copy(update={"bucket": "results"}))
    await replica.uploads.store("alice", picture(4))

    assert await has(replica, "alice", 0, 1, 2, 3, 4) == [True, True, False, True, True]


async def test_replicas_count_together(bus: Bus, images: NatsImageStore) -> None:
    """Each sees the other's images; sizes are in the broker."""
    replicas = [Replica(bus, images) for _ in range(2)]
    for number in range(8):
        await replicas[number % 2].uploads.store("alice", picture(number))
    left = await has(Replica(bus, images), "alice", *range(8))

    assert sum(left) == 4
    assert left[7]


async def test_the_one_owner_of_an_open_gateway_has_the_whole_store(bus: Bus, images: NatsImageStore) -> None:
    """Three quarters of it: above, it makes room."""
    replica = Replica(bus, images, is_open=True)
    for number in range(9):
        await replica.uploads.store("local", picture(number))
    left = await has(replica, "local", *range(9))

    assert sum(left) == 8
    assert left[8]


async def test_what_an_unsettled_job_names_is_never_removed(bus: Bus, replica: Replica) -> None:
    """Also if it is the oldest. If nothing else is left, the upload is refused."""
    for number in range(4):
        await replica.uploads.store("alice", picture(number))
        await bus.publish(
            subjects.waiting_job("alice", f"j{number}"),
            Reservation(inputs=[picture(number).ref.sha256], result_bytes=1),
        )
    with pytest.raises(Busy, match="Your share of the image store is full"):
        await replica.uploads.store("alice", picture(4))

    assert await has(replica, "alice", 0, 1, 2, 3, 4) == [True, True, True, True, False]
    await replica.uploads.store("bob", picture(4))


async def test_the_least_recently_used_result_makes_room(bus: Bus, images: NatsImageStore, replica: Replica) -> None:
    """For the result of the next job, when it is submitted: 6 MiB are a share."""
    photo = await replica.uploads.store("alice", picture(0))
    refs = []
    for number in range(5):
        result = picture(number, size_bytes=MIB)
        ref = result.ref.model_copy(update={"bucket": "results"})
        await mark_result(bus, "alice", f"old{number}", ref)
        await bus.publish(subjects.result_mark("alice", f"old{number}", ref.sha256), write_mark(MIB, 1000 + number))
        refs.append(await images.put("results", result.data, ref))
    counting = Replica(bus, images)  # a count may be two seconds old
    for number in range(2):  # each may take 0.75 MiB
        await submit(counting, "alice", f"new{number}", photo)

    assert [await images.head("results", ref.sha256) is not None for ref in refs] == [False, True, True, True, True]


async def store_results(bus: Bus, images: NatsImageStore) -> list[ImageRef]:
    """Store five results of Alice's jobs old0 to old4, of one MiB each; the first was used longest ago."""
    refs = []
    for number in range(5):
        result = picture(number, MIB)
        ref = result.ref.model_copy(update={"bucket": "results"})
        await bus.publish(subjects.result_mark("alice", f"old{number}", ref.sha256), write_mark(MIB, 1000 + number))
        refs.append(await images.put("results", result.data, ref))
    return refs


async def test_a_result_that_was_edited_again_makes_room_first(
    bus: Bus, images: NatsImageStore, replica: Replica
) -> None:
    """Its bytes are there as the image of the next edit."""
    await replica.uploads.store("alice", picture(3, MIB))
    photo = await replica.uploads.store("alice", picture(9))
    refs = await store_results(bus, images)
    counting = Replica(bus, images)  # a count may be two seconds old
    for number in range(2):
        await submit(counting, "alice", f"new{number}", photo)

    async def find(owner: str, ref: ImageRef) -> Bucket:
        async def read(found: ImageRef) -> Bucket:
            assert await images.get(found.bucket, found.sha256) == picture(refs.index(ref), MIB).data
            return found.bucket

        return await replica.uploads.read_result(owner, ref, read)

    assert [await images.head("results", ref.sha256) is not None for ref in refs] == [True, True, True, False, True]
    assert [await find("alice", ref) for ref in refs] == ["results", "results", "results", "inputs", "results"]
    with pytest.raises(ImageNotFound):
        await find("bob", refs[3])


async def test_a_result_that_an_edit_replaces_makes_room_before_others(
    bus: Bus, images: NatsImageStore, replica: Replica
) -> None:
    """A long chain displaces its own steps. The input of a waiting job stays, however old it is."""
    photo = await replica.uploads.store("alice", picture(9))
    refs = await store_results(bus, images)
    for number in (0, 3):
        await submit(replica, "alice", f"of{number}", refs[number].sha256)
    await replica.stores.release_job("alice", "of3")
    counting = Replica(bus, images)  # a count may be two seconds old
    await submit(counting, "alice", "new", photo)

    assert [await images.head("results", ref.sha256) is not None for ref in refs] == [True, True, True, False, True]


async def test_a_step_with_a_patch_makes_room_before_one_without(
    bus: Bus, images: NatsImageStore, replica: Replica
) -> None:
    """A step with a patch can be assembled, and later steps are assembled from the one without."""
    photo = await replica.uploads.store("alice", picture(9))
    refs = await store_results(bus, images)
    for number in (1, 2):
        await bus.publish(subjects.result_mark("alice", f"old{number}", refs[number].sha256), write_mark(MIB, NEVER))
    await mark_result(bus, "alice", "old2", picture(20, 64).ref)
    counting = Replica(bus, images)  # a count may be two seconds old
    for number in range(2):
        await submit(counting, "alice", f"new{number}", photo)

    assert [await images.head("results", ref.sha256) is not None for ref in refs] == [True, True, False, True, True]


async def test_a_result_makes_no_room_for_an_edit_of_it(bus: Bus, images: NatsImageStore, replica: Replica) -> None:
    """It was edited before, so it would be the first to go; now another one does."""
    photo = await replica.uploads.store("alice", picture(9))
    refs = await store_results(bus, images)
    await bus.publish(subjects.result_mark("alice", "old3", refs[3].sha256), write_mark(MIB, NEVER))
    await submit(replica, "alice", "new0", photo)
    counting = Replica(bus, images)  # a count may be two seconds old
    await submit(counting, "alice", "new1", refs[3].sha256)

    assert [await images.head("results", ref.sha256) is not None for ref in refs] == [False, True, True, True, True]


async def test_a_job_is_refused_whose_result_could_not_be_kept(
    bus: Bus, images: NatsImageStore, replica: Replica
) -> None:
    """The owner's waiting jobs have taken all the room. Another owner has room, and an end makes some."""
    photo = await replica.uploads.store("alice", picture(0))
    for number in range(8):  # each may take 0.75 MiB
        await submit(replica, "alice", f"j{number}", photo)
    with pytest.raises(Busy, match="Your share of the image store is full"):
        await submit(replica, "alice", "j8", photo)
    await replica.uploads.store("bob", picture(0))
    await submit(replica, "bob", "b1", photo)
    hand = WorkerByHand(bus, images, "alice")
    await hand.queue("j0")
    await hand.say(Cancelled(job_id="j0"))  # while no gateway runs that could see it

    await submit(Replica(bus, images), "alice", "j99", photo)


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Run a gateway that requires keys."""
    assert bus.is_connected
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path, store_share=SHARE) as house:
        yield house


async def test_a_full_share_is_429_until_a_job_ends(house: House, bus: Bus) -> None:
    """Over HTTP: the other owner is served meanwhile, and the end of one job makes room for the next."""
    photo = png(size=(800, 800))  # a result may take 1.9 MiB
    order = {"task": "white-balance", "image": await upload(house.alice, photo)}
    answers = [await house.alice.post("/v1/jobs", json=order) for _ in range(4)]
    other = await house.bob.post("/v1/jobs", json={**order, "image": await upload(house.bob, photo)})
    job_id = answers[0].json()["id"]
    facts = {"task": Task.WHITE_BALANCE, "job_class": "interactive", "log_seq": 1, "total_steps": 1}
    queued = Queued.model_validate({"job_id": job_id, "user": "alice", **facts})
    await bus.publish(subjects.event(job_id, "queued"), queued)
    assert (await house.alice.delete(f"/v1/jobs/{job_id}")).status_code == 200

    async def is_released() -> bool:
        entry = await bus.last(OWNED, subjects.waiting_job("alice", job_id))
        return entry is not None and entry.data == b""

    await wait_until(is_released, "the end of the job has made room")
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert answers[3].headers["retry-after"]
    assert other.status_code == 202
    assert (await house.alice.post("/v1/jobs", json=order)).status_code == 202
    assert await bus.last(JOB_EV, subjects.end(job_id))


async def test_a_full_store_is_reported(bus: Bus, images: NatsImageStore) -> None:
    """By health with a sentence, and by a metric."""
    fullness = Fullness(bus)
    await fullness.measure()
    before = list(fullness.sentences)
    for number in range(5):
        result = picture(number)
        await images.put("results", result.data, result.ref.model_copy(update={"bucket": "results"}))
    await fullness.measure()
    report = await SystemHealth(bus, Durability(bus, StreamSettings()), fullness, Workers(bus), 0.01).report(full=True)

    assert before == []
    assert fullness.sentences == [
        "The store results is 94% full; raise STREAMS_PICTURE_BYTES or delete images that are no longer needed."
    ]
    assert fullness.sentences[0] in report["streams"]
    assert report["status"] == "degraded"
    assert FILL.labels("results")._value.get() == pytest.approx(0.94, abs=0.01)  # noqa: SLF001 (there is no reader)


async def test_a_full_store_of_debug_images_costs_no_result(
    bus: Bus, images: NatsImageStore, nats_url: str, stream_settings: StreamSettings
) -> None:
    """The job is done, without its debug session."""
    photo, mask = await images.put("inputs", png()), await images.put("inputs", mask_png())
    desk = Desk(bus, nats_url, stream_settings, photo.sha256)
    for size in (MIB, 4096, 64):
        with contextlib.suppress(StreamFull):
            for number in count():
                await bus.publish(subjects.object_chunks("debug", "fill"), bytes(size), msg_id=f"{size}.{number}")
    async with desk.manager(), desk.worker("classical"):
        await desk.submit("j1", task=Task.REMOVAL, mask=mask.sha256, debug=True)
        done = await desk.done("j1")

    assert done.debug is None
    assert await images.get("results", done.result.sha256)


async def test_a_job_by_hand_keeps_its_input_until_it_ends(
    house: House, desk: Desk, bus: Bus, images: NatsImageStore
) -> None:
    """So does a replay. The owner may delete the photo meanwhile: its bytes go with the end of the last job."""
    photo = await upload(house.alice, png(size=(800, 800)))
    async with desk.manager():
        seqs = [await desk.submit("hand", user="alice", image=photo) for _ in range(2)]
        jobs = ["hand", subjects.replay_id("hand", seqs[1])]
        for job_id in jobs:
            await wait_until(partial(reservation, bus, job_id), f"{job_id} has room")
        found = [await reservation(bus, job_id) for job_id in jobs]
        assert (await house.alice.delete(f"/v1/images/{photo}")).status_code == 204
        gone = (await house.alice.get(f"/v1/images/{photo}")).status_code
        assert await desk.cancel(jobs[0])
        kept = await images.head("inputs", photo)
        assert await desk.cancel(jobs[1])

        async def is_deleted() -> bool:
            return await images.head("inputs", photo) is None

        await wait_until(is_deleted, "the end of the last job deletes the photo")

    assert found == [Reservation(inputs=[photo], result_bytes=800 * 800 * 3 + 64 * 1024, by_hand=True)] * 2
    assert gone == 404
    assert kept is not None


async def test_the_end_of_a_job_by_hand_frees_its_room(house: House, desk: Desk, bus: Bus) -> None:
    """Also if no request has made a gateway read the entries of waiting jobs meanwhile."""
    photo = await upload(house.alice, png())
    async with desk.manager():
        await desk.submit("hand", user="alice", image=photo)
        await wait_until(partial(reservation, bus, "hand"), "the job has room")
        assert await desk.cancel("hand")

        async def is_free() -> bool:
            return await reservation(bus, "hand") is None

        await wait_until(is_free, "the end frees the room")


async def reservation(bus: Bus, job_id: str) -> Reservation | None:
    stored = await bus.last(OWNED, subjects.waiting_job("alice", job_id))
    return Reservation.model_validate_json(stored.data) if stored and stored.data else None
