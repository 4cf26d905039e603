"""JOB_Q is deleted or purged while the system runs: its jobs without an end are queued again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared import declaring, subjects
from shared.deliveries import pull
from shared.messages import Cancelled, JobClass, JobSubmit, JobWork, Task
from shared.settings import StreamSettings
from shared.topology import ADVISORY, JOB_DLQ, JOB_EV, JOB_LOG, JOB_Q, REAPER, worker_consumer
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from shared.bus import Bus
    from tests.running import Desk

HASTY = "tests.fakes:HastyEngine"  # ends at once and ignores the prompt
WAITING = [f"j{number}" for number in range(5)]


@pytest.fixture
def stream_settings() -> StreamSettings:
    """Leases that end during a test, but not while a loaded machine stalls."""
    return StreamSettings(lease_s=3.0, picture_bytes=1024**3)


async def has_queued(bus: Bus, count: int) -> bool:
    return len(await bus.subjects_in(JOB_Q, subjects.ALL_QUEUED)) == count


async def delete_queue(desk: Desk) -> None:
    assert await desk.bus.client.jetstream().delete_stream(JOB_Q)


async def test_waiting_jobs_are_queued_again_and_running_ones_are_not(desk: Desk) -> None:
    """Each is done in its first attempt: a worker with recent events keeps its job."""
    async with desk.manager(), desk.worker():
        await desk.submit("long", script(70, interval_ms=100))
        await desk.started("long")
        for job_id in WAITING:
            await desk.submit(job_id)
        await wait_until(lambda: has_queued(desk.bus, 6), "five wait behind the one that runs")
        await delete_queue(desk)
        for job_id in ("long", *WAITING):
            await desk.done(job_id)

    assert [await desk.attempts(job_id) for job_id in ("long", *WAITING)] == [[1]] * 6


async def test_a_dead_workers_job_runs_again_although_its_lease_is_lost(desk: Desk) -> None:
    """JOB_Q can no longer deliver it; the second attempt publishes all steps again."""
    async with desk.manager(), desk.worker_process() as doomed:
        await desk.submit("j1", script(3600, interval_ms=50))
        await desk.started("j1")
        await delete_queue(desk)
        doomed.kill()
        await doomed.wait()
        async with desk.worker(HASTY, name="heir"):
            end = await desk.done("j1")

    assert (end.worker, end.attempt) == ("heir", 2)
    story = [kind for kind in await desk.story("j1") if kind != "returned"]  # the loss may be reported before
    assert story == ["queued", "started", "progress", "started", "progress", "done"]


async def test_a_new_manager_knows_the_jobs_of_the_last_one(desk: Desk) -> None:
    """It reads JOB_Q before JOB_Q is lost."""
    async with desk.manager():
        await desk.submit("j1")
        await wait_until(lambda: has_queued(desk.bus, 1), "the job is queued")
    async with desk.manager():
        await desk.submit("j2")
        await wait_until(lambda: has_queued(desk.bus, 2), "the new manager is running")
        await delete_queue(desk)
        async with desk.worker():
            await desk.done("j1")
            await desk.done("j2")


async def test_jobs_that_were_lost_without_a_manager_come_back(desk: Desk, stream_settings: StreamSettings) -> None:
    """Only their events remain: one job waited, one ran, one had ended, one was cancelled."""
    async with desk.manager(), desk.worker_process() as doomed:
        await desk.submit("ended")
        await desk.done("ended")
        await desk.submit("running", script(3600, interval_ms=50))
        await desk.started("running")
        for job_id in ("waiting", "cancelled"):
            await desk.submit(job_id)
        await wait_until(lambda: has_queued(desk.bus, 3), "two wait behind the one that runs")
        doomed.kill()
        await doomed.wait()
    end = Cancelled(job_id="cancelled")
    await desk.bus.publish_first(JOB_EV, subjects.end("cancelled"), end, msg_id="cancel")
    await delete_queue(desk)
    await declaring.declare_streams(desk.bus, stream_settings)
    async with desk.manager(), desk.worker(HASTY):
        for job_id in ("waiting", "running"):
            await desk.done(job_id)

    assert [await desk.attempts(job_id) for job_id in ("ended", "running", "waiting", "cancelled")] == [
        [1],
        [1, 2],
        [1],
        [],
    ]


async def test_an_ended_job_does_not_stay_in_the_queue(desk: Desk) -> None:
    """After a full disk a broker may have the acknowledgement and still keep the message."""
    submission = JobSubmit(task=Task.WHITE_BALANCE, image=desk.photo)
    work = JobWork(job_id="j1", user="u1", job_class=JobClass.INTERACTIVE, log_seq=1, submit=submission)
    await desk.bus.publish_first(JOB_EV, subjects.end("j1"), Cancelled(job_id="j1"), msg_id="cancel")
    async with desk.manager():
        await desk.bus.publish(subjects.queue_entry("interactive", Task.WHITE_BALANCE, "u1", "j1"), work)
        await wait_until(lambda: has_queued(desk.bus, 0), "the queue is empty")


async def test_a_job_that_an_operator_purged_stays_purged(desk: Desk) -> None:
    """A job that is also missing in the log was removed on purpose; the other one comes back."""
    async with desk.manager():
        await desk.submit("j1", user="leaver")
        await desk.submit("j2", user="stayer")
        await wait_until(lambda: has_queued(desk.bus, 2), "both wait")
        await desk.bus.purge(JOB_LOG, "job.submit.*.*.leaver.>")
        await desk.bus.purge(JOB_Q, subjects.ALL_QUEUED)
        async with desk.worker():
            await desk.done("j2")

    assert await desk.attempts("j1") == []


@pytest.mark.parametrize(
    "stream_settings",
    [StreamSettings(lease_s=0.7, max_deliver=1, max_handbacks=0, picture_bytes=1024**3)],
    ids=["given up at once"],
)
async def test_an_advisory_of_a_lost_queue_ends_no_other_job(desk: Desk, stream_settings: StreamSettings) -> None:
    """The new stream counts from one, so the sequence in the advisory belongs to another job now."""
    submission = JobSubmit(task=Task.WHITE_BALANCE, image=desk.photo)
    queue = worker_consumer(JobClass.INTERACTIVE, Task.WHITE_BALANCE)

    async def put(job_id: str) -> int:
        work = JobWork(job_id=job_id, user="u1", job_class=JobClass.INTERACTIVE, log_seq=1, submit=submission)
        return await desk.bus.publish(subjects.queue_entry("interactive", Task.WHITE_BALANCE, "u1", job_id), work)

    async def given_up() -> bool:
        await pull(desk.bus, JOB_Q, queue)
        return await desk.bus.first(ADVISORY, subjects.MAX_DELIVERIES) is not None

    async def is_reaped() -> bool:
        reaper = await desk.bus.client.jetstream().consumer_info(ADVISORY, REAPER)
        return (reaper.num_pending, reaper.num_ack_pending) == (0, 0)

    before = await put("j1")
    await wait_until(given_up, "the broker has given up")
    await delete_queue(desk)
    await declaring.declare_streams(desk.bus, stream_settings)
    after = await put("j2")
    async with desk.manager():
        await wait_until(is_reaped, "the reaper has settled it")

    assert before == after
    assert await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD) == []
    assert await desk.bus.last(JOB_EV, subjects.end("j2")) is None
    assert await has_queued(desk.bus, 1)
