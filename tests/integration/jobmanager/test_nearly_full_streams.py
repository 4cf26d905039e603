"""Nearly full streams: only the owner with the largest volume loses messages."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from services.jobmanager.history.holdings import Events, Letters, Records, Sessions
from services.jobmanager.history.shares import Shares
from shared import job_events, subjects
from shared.errors import ImageNotFound, WrongLastSequence
from shared.image_store import StoredImages
from shared.messages import (
    Cancelled,
    DeadLetter,
    DebugImage,
    DebugSession,
    ImageRef,
    JobClass,
    JobRecord,
    JobState,
    JobSubmit,
    Progress,
    Queued,
    Task,
)
from shared.topology import JOB_DLQ, JOB_EV, JOB_LOG, JOBS, SESSIONS, bucket_stream

if TYPE_CHECKING:
    from services.jobmanager.history.holdings import Holdings
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from tests.running import Desk

LIMIT = 256 * 1024
LONG = "x" * 4_000
RESULT = ImageRef(bucket="results", sha256="0" * 64, content_type="image/png", width=4, height=3, size_bytes=9)


async def shrink(bus: Bus, stream: str, limit: int = LIMIT) -> None:
    jetstream = bus.client.jetstream()
    await jetstream.update_stream((await jetstream.stream_info(stream)).config.evolve(max_bytes=limit))


async def fill_of(bus: Bus, stream: str) -> float:
    info = await bus.info(stream, {})
    return float(info["state"]["bytes"]) / float(info["config"]["max_bytes"])


def record(owner: str, job_id: str, state: JobState = JobState.CANCELLED) -> JobRecord:
    return JobRecord(job_id=job_id, user=owner, state=state, message=LONG, created_at=1.0, updated_at=1.0, last_seq=1)


async def write_record(bus: Bus, owner: str, job_id: str, state: JobState = JobState.CANCELLED) -> None:
    await bus.publish(subjects.job_record(owner, job_id), record(owner, job_id, state))


async def write_events(bus: Bus, owner: str, job_id: str, *, ended: bool = True) -> None:
    """Store a job with a long step, and its record without one."""
    queued = Queued(job_id=job_id, user=owner, task=Task.REMOVAL, job_class=JobClass.BATCH, log_seq=1, total_steps=9)
    step = Progress(job_id=job_id, phase="processing", fraction=0.5, message=LONG)
    for event in (queued, step):
        await job_events.publish_event(bus, event)
    if ended:
        await job_events.publish_end(bus, Cancelled(job_id=job_id), msg_id=job_id)
    await bus.publish(subjects.job_record(owner, job_id), record(owner, job_id).model_copy(update={"message": None}))


async def write_letter(bus: Bus, owner: str, job_id: str) -> None:
    letter = DeadLetter(job_id=job_id, reason="busy", message=LONG, attempts=1)
    await bus.publish(subjects.dead_letter("busy", job_id), letter)
    await bus.publish(subjects.job_record(owner, job_id), record(owner, job_id).model_copy(update={"message": None}))


async def write_session(bus: Bus, images: NatsImageStore, owner: str, number: int, *pictures: bytes) -> None:
    hashes = []
    for data in pictures:
        sha256 = hashlib.sha256(data).hexdigest()
        ref = ImageRef(
            bucket="debug", sha256=sha256, content_type="image/png", width=50, height=100, size_bytes=len(data)
        )
        await images.put("debug", data, ref)
        hashes.append(sha256)
    session = DebugSession(
        name=f"20261130_120000_{number:08d}",
        job_id=f"j{number}",
        user=owner,
        created_at=1.0,
        engine="e",
        duration_ms=1,
        submit=JobSubmit(task=Task.WHITE_BALANCE, image="0" * 64),
        result=RESULT,
        images=[DebugImage(label="mask", sha256=sha256, width=50, height=100) for sha256 in hashes],
    )
    await bus.publish(subjects.debug_session(owner, session.name), session)


async def jobs_in(bus: Bus, stream: str, pattern: str) -> list[str]:
    """Return the last token of the stored subjects, the oldest first."""
    return [stored.subject.rpartition(".")[2] for stored in await bus.history(stream, pattern)]


async def test_records_of_the_largest_owner_go_first(bus: Bus) -> None:
    """Those of open jobs stay, and all of an owner with few."""
    await shrink(bus, JOBS)
    await write_record(bus, "bob", "b1")
    await write_record(bus, "ann", "runs", JobState.RUNNING)
    for number in range(46):
        await write_record(bus, "ann", f"a{number:02d}")
    assert await fill_of(bus, JOBS) > 0.75
    made = await Shares(bus, Records(bus)).make_room()
    left = await jobs_in(bus, JOBS, subjects.job_records_of("ann"))

    assert made
    assert 0.6 < await fill_of(bus, JOBS) < 0.67
    assert await jobs_in(bus, JOBS, subjects.job_records_of("bob")) == ["b1"]
    assert left == ["runs", *(f"a{number:02d}" for number in range(47 - len(left), 46))]


async def test_a_submission_goes_with_its_record(bus: Bus, desk: Desk) -> None:
    """Without a record its job would count as one that waits. An original stays while its replay is logged."""
    await shrink(bus, JOBS)
    for job_id in ("a00", "a01", "a02", "a01"):
        await desk.submit(job_id, user="ann")
    for number in range(48):
        await write_record(bus, "ann", f"a{number:02d}")
    await Shares(bus, Records(bus)).make_room()
    left = await jobs_in(bus, JOBS, subjects.ALL_RECORDS)

    assert await jobs_in(bus, JOB_LOG, "job.submit.>") == ["a01", "a01"]
    assert left[:2] == ["a01", "a08"]
    assert await job_events.load_record(bus, "a00") is None


async def test_events_of_the_largest_owner_go_first(bus: Bus) -> None:
    """The end of a job stays, so that no second one is stored; an open job keeps all its events."""
    await shrink(bus, JOB_EV)
    await write_events(bus, "bob", "b1")
    await write_events(bus, "ann", "open", ended=False)
    for number in range(40):
        await write_events(bus, "ann", f"a{number:02d}")
    assert await fill_of(bus, JOB_EV) > 0.75
    await Shares(bus, Events(bus)).make_room()

    assert 0.6 < await fill_of(bus, JOB_EV) < 0.67
    kinds = {job_id: await jobs_in(bus, JOB_EV, subjects.events_of(job_id)) for job_id in ("b1", "open", "a00", "a39")}
    whole = ["queued", "progress"]
    assert kinds == {"b1": [*whole, "end"], "open": whole, "a00": ["end"], "a39": [*whole, "end"]}
    assert len(await bus.subjects_in(JOB_EV, subjects.EVERY_END)) == 41
    with pytest.raises(WrongLastSequence):
        await job_events.publish_end(bus, Cancelled(job_id="a00"), msg_id="late")


async def test_letters_of_the_largest_owner_go_first(bus: Bus) -> None:
    """Letters that belong to no job count as those of one owner."""
    await shrink(bus, JOB_DLQ)
    await write_letter(bus, "bob", "b1")
    await bus.publish(subjects.dead_letter("bad_message", "unnamed-r7"), b"no letter")
    for number in range(48):
        await write_letter(bus, "ann", f"a{number:02d}")
    assert await fill_of(bus, JOB_DLQ) > 0.75
    await Shares(bus, Letters(bus)).make_room()
    left = await jobs_in(bus, JOB_DLQ, subjects.ALL_DEAD)

    assert 0.6 < await fill_of(bus, JOB_DLQ) < 0.67
    assert left == ["b1", "unnamed-r7", *(f"a{number:02d}" for number in range(50 - len(left), 48))]


async def test_debug_pictures_of_the_largest_owner_go_first(bus: Bus, images: NatsImageStore) -> None:
    """The store refuses when it is full, so the pictures go with their sessions; one that others show stays."""
    await shrink(bus, bucket_stream("debug"), 10 * LIMIT)
    shared = bytes(50_000)
    await write_session(bus, images, "bob", 0, shared)
    for number in range(1, 11):
        await write_session(bus, images, "ann", number, shared, number.to_bytes(1, "big") * 200_000)
    assert await fill_of(bus, bucket_stream("debug")) > 0.75
    made = await Shares(bus, Sessions(bus, StoredImages(bus))).make_room()

    assert made
    assert await fill_of(bus, bucket_stream("debug")) < 0.7
    assert len(await bus.history(SESSIONS, subjects.debug_sessions_of("bob"))) == 1
    names = await jobs_in(bus, SESSIONS, subjects.debug_sessions_of("ann"))
    assert len(names) < 9
    assert names[-1] == "20261130_120000_00000010"
    assert await images.get("debug", hashlib.sha256(shared).hexdigest()) == shared
    with pytest.raises(ImageNotFound):
        await images.get("debug", hashlib.sha256(bytes([1]) * 200_000).hexdigest())


@pytest.mark.parametrize("kind", [Records, Events, Letters])
async def test_without_anything_to_spare_all_stays(bus: Bus, kind: type[Records | Events | Letters]) -> None:
    """A stream with room is left alone, and so is a full one of open jobs."""
    holdings: Holdings = kind(bus)
    (stream,) = holdings.streams
    roomy = await Shares(bus, holdings).make_room()
    await shrink(bus, JOBS)
    await shrink(bus, JOB_EV)
    for number in range(48):
        await write_events(bus, "ann", f"a{number}", ended=False)
        await write_record(bus, "ann", f"a{number}", JobState.QUEUED)
    before = await bus.last_sequence(stream), len(await bus.history(stream, ">"))
    full = await Shares(bus, holdings).make_room()

    assert roomy
    assert full is (stream == JOB_DLQ)
    assert (await bus.last_sequence(stream), len(await bus.history(stream, ">"))) == before
