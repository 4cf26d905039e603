"""A job with a lost submission ends with an error text, and never gets another job's submission."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from services.jobmanager.replay import Replay
from shared import declaring, job_events, subjects
from shared.errors import SubmissionLost, WrongLastSequence
from shared.job_events import load_record, load_submission
from shared.messages import Cancelled, JobRecord, JobState, RedriveRequest, Started
from shared.settings import StreamSettings
from shared.topology import JOB_EV, JOB_LOG, JOB_Q, JOBS
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from services.stack.nats_server import NatsServer
    from shared.bus import Bus
    from tests.running import Desk


@pytest.fixture
def stream_settings() -> StreamSettings:
    """Leases that end during a test, but not while a loaded machine stalls."""
    return StreamSettings(lease_s=3.0, picture_bytes=1024**3)


async def wait_for_queued_event(desk: Desk, job_id: str) -> None:
    async def is_announced() -> bool:
        return await desk.bus.last(JOB_EV, subjects.event(job_id, "queued")) is not None

    await wait_until(is_announced, f"{job_id} is announced")


async def state_in_view(bus: Bus, job_id: str) -> JobState | None:
    stored = await bus.first(JOBS, subjects.job_record_anywhere(job_id))
    return None if stored is None else JobRecord.model_validate_json(stored.data).state


async def test_a_waiting_job_without_its_submission_fails(desk: Desk) -> None:
    """The log was purged while no job manager ran. The job that JOB_Q holds runs, the one that waited cannot."""
    async with desk.manager(lookahead=1, compare_s=0.3):
        await desk.submit("queued")
        await desk.submit("waiting")
        await wait_for_queued_event(desk, "waiting")
    await desk.bus.purge(JOB_LOG, ">")
    async with desk.manager(lookahead=1, compare_s=0.3):
        end = await desk.failed("waiting")
        async with desk.worker():
            await desk.done("queued")

    assert (end.code, end.message) == ("submission_lost", SubmissionLost().message)


async def test_a_log_that_is_deleted_under_running_services_leaves_no_job_queued(desk: Desk) -> None:
    """The job manager creates the stream again, and new jobs run."""
    async with desk.manager(lookahead=1, compare_s=0.3):
        await desk.submit("queued")
        await desk.submit("waiting")
        await wait_for_queued_event(desk, "waiting")
        await desk.bus.client.jetstream().delete_stream(JOB_LOG)
        await desk.failed("waiting")
        async with desk.worker():
            await desk.done("queued")
            await desk.submit("new")
            await desk.done("new")


async def test_a_running_job_survives_the_loss_of_log_and_queue(desk: Desk) -> None:
    """Its worker sends events, so it is not taken for lost."""
    async with desk.worker(), desk.manager(compare_s=0.3):
        await desk.submit("j1", script(20, interval_ms=100))
        await desk.started("j1")
        for stream in (JOB_LOG, JOB_Q):
            await desk.bus.client.jetstream().delete_stream(stream)
        await desk.done("j1")

    assert await desk.attempts("j1") == [1]


async def test_events_that_are_deleted_under_running_services_leave_no_job_queued(desk: Desk) -> None:
    """The new stream continues the sequences, or records and open event streams would ignore its events."""
    async with desk.manager(lookahead=1, compare_s=0.3):
        for job_id in ("j1", "j2"):
            await desk.submit(job_id)
            await wait_for_queued_event(desk, job_id)
        before = await desk.bus.last_sequence(JOB_EV)
        await desk.bus.client.jetstream().delete_stream(JOB_EV)
        async with desk.worker():
            for job_id in ("j1", "j2"):
                await desk.done(job_id)

        async def is_viewed() -> bool:
            return [await state_in_view(desk.bus, job_id) for job_id in ("j1", "j2")] == [JobState.DONE] * 2

        await wait_until(is_viewed, "the view has both ends")

    assert (await desk.stored_events("j1"))[0].seq > before


async def test_a_new_broker_counts_from_one(bare_bus: Bus, stream_settings: StreamSettings) -> None:
    """Only a stream that is created again continues, and a declaration does not change it later."""
    await declaring.declare_streams(bare_bus, stream_settings)
    first = await bare_bus.publish(subjects.submission("interactive", "u1", "j1"), b"{}")
    await bare_bus.client.jetstream().delete_stream(JOB_LOG)
    await declaring.declare_streams(bare_bus, stream_settings)
    second = await bare_bus.publish(subjects.submission("interactive", "u1", "j1"), b"{}")
    await declaring.declare_streams(bare_bus, stream_settings.model_copy(update={"queue_limit": 7}))
    third = await bare_bus.publish(subjects.submission("interactive", "u1", "j1"), b"{}")

    assert (first, second > 10**15, third) == (1, True, second + 1)


async def test_a_truncated_log_ends_its_jobs_and_leaks_no_submission(
    desk: Desk, nats_server: NatsServer, tmp_path: Path
) -> None:
    """The broker gives the lost sequences to the next submissions, of other owners."""
    async with desk.manager(lookahead=1, compare_s=0.3):
        await desk.submit("kept")
        await desk.submit("lost", user="ann", prompt="x" * 5000)
        await wait_for_queued_event(desk, "lost")
    await nats_server.kill()
    (block,) = (tmp_path / "nats").rglob(f"streams/{JOB_LOG}/msgs/*.blk")
    os.truncate(block, block.stat().st_size - 2000)
    (block.parent / "index.db").unlink(missing_ok=True)
    await nats_server.start()
    await wait_until(lambda: desk.bus.is_connected, "the client is back")
    record = await load_record(desk.bus, "lost")
    assert record is not None
    assert record.log_seq == await desk.submit("other", user="bob", prompt="bob's secret")

    assert await load_submission(desk.bus, record) is None
    async with desk.manager(lookahead=1, compare_s=0.3):
        end = await desk.failed("lost")
        redriven = await Replay(desk.bus).redrive(RedriveRequest(job_id="lost"))
        async with desk.worker():
            for job_id in ("kept", "other"):
                await desk.done(job_id)

    assert end.code == "submission_lost"
    assert [(job.new_job_id, job.problem) for job in redriven.jobs] == [
        (None, "The log no longer holds its submission.")
    ]


async def test_a_replay_stays_a_replay_when_its_original_has_left_the_log(desk: Desk) -> None:
    """Otherwise it would count as the job that has ended, and would never end itself."""
    async with desk.manager(compare_s=0.3), desk.worker():
        first = await desk.submit("j1")
        await desk.done("j1")

        async def is_viewed() -> bool:
            return await state_in_view(desk.bus, "j1") is JobState.DONE

        await wait_until(is_viewed, "the view has its end")
    await desk.bus.delete(JOB_LOG, first)
    again = await desk.submit("j1")
    async with desk.manager(compare_s=0.3), desk.worker():
        await desk.done(subjects.replay_id("j1", again))


@pytest.mark.parametrize("junk", [b"", b"garbage", b'{"type":"progress","job_id":"j1","phase":"loading","fraction":0}'])
async def test_junk_in_the_place_of_its_end_ends_no_job(desk: Desk, junk: bytes) -> None:
    """It came first, so the condition of every publish must not count it; the job waits, runs and ends."""
    async with desk.manager(compare_s=0.3):
        await desk.bus.publish(subjects.end("j1"), junk)
        await desk.submit("j1")
        await wait_for_queued_event(desk, "j1")
        await desk.bus.publish(subjects.end("j1"), junk)
        async with desk.worker():
            await wait_until(lambda: job_events.has_ended(desk.bus, "j1"), "the job has ended")

        async def is_viewed() -> bool:
            return await state_in_view(desk.bus, "j1") is JobState.DONE

        await wait_until(is_viewed, "the view has its end")

    assert not await desk.cancel("j1")


async def test_junk_after_its_end_opens_no_job_again(desk: Desk) -> None:
    """The first end counts, and the broker must store no second one."""
    await job_events.publish_end(desk.bus, Cancelled(job_id="j1"), msg_id="first")
    await desk.bus.publish(subjects.end("j1"), b"garbage")

    await job_events.publish_end(desk.bus, Cancelled(job_id="j1"), msg_id="first")  # its acknowledgement was lost
    with pytest.raises(WrongLastSequence):
        await job_events.publish_end(desk.bus, Cancelled(job_id="j1"), msg_id="second")
    with pytest.raises(WrongLastSequence):
        await job_events.publish_event(desk.bus, Started(job_id="j1", worker="w1", engine="none", attempt=1))
    assert await job_events.has_ended(desk.bus, "j1")
    assert len(await desk.stored_events("j1")) == 2


async def test_an_end_of_a_newer_release_is_an_end(bus: Bus) -> None:
    """It is not overwritten, although this release cannot read it."""
    await bus.publish(subjects.end("j1"), b'{"v": 2, "type": "done", "job_id": "j1"}')

    assert await job_events.has_ended(bus, "j1")
