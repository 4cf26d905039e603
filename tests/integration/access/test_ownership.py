"""Ownership of images and jobs, stored in the broker for every replica."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.gateway.access.ownership import StoredOwnership
from services.gateway.core.stores import Stores
from services.gateway.core.uploads import Uploads
from shared import subjects
from shared.errors import BadMessage
from shared.marks import Mark, mark_result, read_mark, unmark_result
from shared.messages import JobRecord, JobState, JobSubmit, Task
from shared.topology import OWNED
from tests.gateway import png

if TYPE_CHECKING:
    from services.gateway.decoding.decoders import Decoders
    from shared.bus import Bus
    from shared.image_store import NatsImageStore

SHA256 = "0" * 64
DAY = 86_400.0
NOON = 1_772_366_400.0


class Clock:
    """A clock that the test sets."""

    now = NOON

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


def uploads_of(bus: Bus, images: NatsImageStore, clock: Clock, decoders: Decoders) -> Uploads:
    """Return the uploads of a gateway with keys."""
    ownership = StoredOwnership(bus, clock)
    return Uploads(images, ownership, Stores(bus, images, ownership, share=0.5), decoders)


async def test_a_picture_is_its_owners_for_every_replica(bus: Bus, clock: Clock) -> None:
    """No other owner has it, even with its hash."""
    await StoredOwnership(bus, clock).add_image("alice", SHA256, 7)
    replica = StoredOwnership(bus, clock)

    assert await replica.owns_image("alice", SHA256)
    assert not await replica.owns_image("bob", SHA256)
    assert not await replica.owns_image("alice", "1" * 64)


async def test_two_may_own_the_same_picture(bus: Bus, clock: Clock) -> None:
    """Both have uploaded it; the entry of one can be removed alone."""
    ledger = StoredOwnership(bus, clock)
    await ledger.add_image("alice", SHA256, 7)
    await ledger.add_image("bob", SHA256, 7)
    await bus.purge(OWNED, subjects.image_ownership("alice", SHA256))
    replica = StoredOwnership(bus, clock)

    assert not await replica.owns_image("alice", SHA256)
    assert await replica.owns_image("bob", SHA256)


async def test_a_result_is_an_image_of_its_owner_alone(
    bus: Bus, images: NatsImageStore, clock: Clock, decoders: Decoders
) -> None:
    """Its owner's next edit can begin from it; to everybody else it is unknown, also after its owner has used it."""
    uploads = uploads_of(bus, images, clock, decoders)
    ref = await images.put("results", png())
    await mark_result(bus, "alice", "j1", ref)

    assert not await uploads.has("bob", ref.sha256)
    assert await uploads.has("alice", ref.sha256)
    assert not await uploads.has("bob", ref.sha256)
    assert await images.head("inputs", ref.sha256) is not None


async def test_a_deleted_result_is_no_image(bus: Bus, images: NatsImageStore, clock: Clock, decoders: Decoders) -> None:
    """Its mark is gone, whether or not its bytes still are."""
    uploads = uploads_of(bus, images, clock, decoders)
    ref = await images.put("results", png())
    await mark_result(bus, "alice", "j1", ref)
    await unmark_result(bus, "alice", "j1", ref.sha256)

    assert not await uploads.has("alice", ref.sha256)


async def test_what_is_used_stays_theirs(bus: Bus, clock: Clock) -> None:
    """The use is noted every ten minutes: the least recently used image is deleted first."""
    subject = subjects.image_ownership("alice", SHA256)
    await StoredOwnership(bus, clock).add_image("alice", SHA256, 7)
    written = []
    for clock.now in (NOON + 599, NOON + 601):
        assert await StoredOwnership(bus, clock).owns_image("alice", SHA256)
        entry = await bus.last(OWNED, subject)
        assert entry is not None
        written.append(read_mark(entry.data))

    assert written == [Mark(int(NOON), 7), Mark(int(NOON) + 601, 7)]


async def test_an_entry_from_the_future_is_renewed(bus: Bus, clock: Clock) -> None:
    """Its gateway's clock was days ahead; the entry would seem young until after its end."""
    clock.now = NOON + 10 * DAY
    await StoredOwnership(bus, clock).add_image("alice", SHA256, 7)
    clock.now = NOON
    assert await StoredOwnership(bus, clock).owns_image("alice", SHA256)

    entry = await bus.last(OWNED, subjects.image_ownership("alice", SHA256))
    assert entry is not None
    assert read_mark(entry.data) == Mark(int(NOON), 7)


async def test_what_was_found_is_believed_for_a_minute(bus: Bus, clock: Clock) -> None:
    """After that, a removed entry counts as removed."""
    monotonic = Clock()
    ledger = StoredOwnership(bus, clock, monotonic)
    await ledger.add_image("alice", SHA256, 7)
    await bus.purge(OWNED, subjects.image_ownership("alice", SHA256))
    clock.now -= 3 * DAY  # a jump of the wall clock makes no difference
    believed = await ledger.owns_image("alice", SHA256)
    monotonic.now += 60

    assert believed
    assert not await ledger.owns_image("alice", SHA256)


async def test_a_job_is_its_owners_as_soon_as_it_is_logged(bus: Bus, clock: Clock) -> None:
    """With a job manager or without."""
    order = JobSubmit(task=Task.WHITE_BALANCE, image=SHA256)
    await bus.publish(subjects.submission("batch", "alice", "j1"), order)
    ledger = StoredOwnership(bus, clock)

    assert await ledger.owns_job("alice", "j1")
    assert not await ledger.owns_job("bob", "j1")
    assert not await ledger.owns_job("bob", "j2")


async def test_a_replay_is_the_owners_too(bus: Bus, clock: Clock) -> None:
    """Its id is in no submit, but in the view."""
    record = JobRecord(job_id="j1-r7", user="alice", state=JobState.QUEUED, created_at=1, updated_at=1, last_seq=1)
    await bus.publish(subjects.job_record("alice", "j1-r7"), record)
    ledger = StoredOwnership(bus, clock)

    assert await ledger.owns_job("alice", "j1-r7")
    assert not await ledger.owns_job("bob", "j1-r7")


async def test_a_jobs_state_is_its_owners(bus: Bus, clock: Clock) -> None:
    """Of two submits by hand under one id, the record names the owner; the other owner has no job."""
    for user in ("alice", "bob"):
        await bus.publish(subjects.submission("batch", user, "j1"), JobSubmit(task=Task.WHITE_BALANCE, image=SHA256))
    record = JobRecord(job_id="j1", user="alice", state=JobState.QUEUED, created_at=1, updated_at=1, last_seq=1)
    loaded: list[str] = []

    async def load(job_id: str) -> JobRecord:
        loaded.append(job_id)
        return record

    ownership = StoredOwnership(bus, clock)

    assert await ownership.owned_job("alice", "j1", load) == record
    assert await ownership.owned_job("bob", "j1", load) is None
    assert await ownership.owned_job("carol", "j1", load) is None
    assert loaded == ["j1", "j1"]


@pytest.mark.parametrize("job_id", ["*", ">", "a.b", "", "x" * 65])
async def test_what_is_no_id_is_nobodys(bus: Bus, clock: Clock, job_id: str) -> None:
    """A wildcard must not find a job."""
    await bus.publish(subjects.submission("batch", "alice", "j1"), JobSubmit(task=Task.WHITE_BALANCE, image=SHA256))
    with pytest.raises(BadMessage):
        await StoredOwnership(bus, clock).owns_job("alice", job_id)


def test_a_question_is_its_owners(bus: Bus, clock: Clock) -> None:
    """The id itself carries it, for every replica."""
    request = StoredOwnership(bus, clock).new_request_id("alice")
    replica = StoredOwnership(bus, clock)

    assert replica.owns_request("alice", request)
    assert not replica.owns_request("bob", request)
    assert subjects.seg_cancel(request)


async def test_each_owner_stores_a_picture_for_themselves(
    bus: Bus, images: NatsImageStore, clock: Clock, decoders: Decoders
) -> None:
    """The first upload of each owner is stored, so its time shows nothing; a second one is not."""
    uploads = uploads_of(bus, images, clock, decoders)
    upload = await uploads.read_bytes(png(), "Image")
    written = []
    for owner in ("alice", "alice", "bob", "bob"):
        await uploads.store(owner, upload)
        written.append(await bus.last_sequence("OBJ_inputs"))  # of a chunk and an entry

    assert written == [2, 2, 4, 4]


async def test_a_picture_is_found_by_its_owner_only(
    bus: Bus, images: NatsImageStore, clock: Clock, decoders: Decoders
) -> None:
    """Its hash alone opens nothing, and neither does a malformed hash."""
    uploads = uploads_of(bus, images, clock, decoders)
    sha256 = await uploads.store("alice", await uploads.read_bytes(png(), "Image"))
    found = await uploads.find("alice", sha256)

    assert found is not None
    assert found.sha256 == sha256
    assert await uploads.find("bob", sha256) is None
    assert await uploads.find("alice", f"{sha256}\n") is None
    assert await uploads.find("alice", "*") is None


async def test_only_the_first_mark_of_an_image_is_written_without_a_read(bus: Bus) -> None:
    """Not for an image that the owner has, on any replica, and not for one that was deleted: its entry stays."""
    answers = [await StoredOwnership(bus).add_first("alice", SHA256, 7) for _ in range(2)]
    assert await StoredOwnership(bus).owns_image("alice", SHA256)
    assert await StoredOwnership(bus).remove_image("alice", SHA256)
    answers.append(await StoredOwnership(bus).add_first("alice", SHA256, 7))

    assert answers == [True, False, False]
    assert not await StoredOwnership(bus).owns_image("alice", SHA256)
    assert await StoredOwnership(bus).add_first("bob", SHA256, 7)
