"""JOB_Q deleted or purged under the running system: what was in it and has not ended is queued again."""

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

HASTY = "tests.fakes:HastyEngine"  # is done at once, whatever the prompt says
WAITING = [f"j{number}" for number in range(5)]


@pytest.fixture
def stream_settings() -> StreamSettings:
    """Leases that end while a test runs, and that a machine which stalls does not outlast."""
    return StreamSettings(lease_s=3.0, picture_bytes=1024**3)


async def queued(bus: Bus, count: int) -> bool:
    return len(await bus.subjects_in(JOB_Q, subjects.ALL_QUEUED)) == count


async def lose_the_queue(desk: Desk) -> None:
    assert await desk.bus.client.jetstream().delete_stream(JOB_Q)


async def test_what_waited_is_queued_again_and_what_runs_is_left_alone(desk: Desk) -> None:
    """Each is done in its first attempt: a worker that is heard of keeps its job."""
    async with desk.manager(), desk.worker():
        await desk.submit("long", script(70, interval_ms=100))
        await desk.started("long")
        for job_id in WAITING:
            await desk.submit(job_id)
        await wait_until(lambda: queued(desk.bus, 6), "five wait behind the one that runs")
        await lose_the_queue(desk)
        for job_id in ("long", *WAITING):
            await desk.done(job_id)

    assert [await desk.attempts(job_id) for job_id in ("long", *WAITING)] == [[1]] * 6


async def test_a_dead_workers_job_runs_again_although_its_lease_is_lost(desk: Desk) -> None:
    """Nothing in the queue would bring it back; all its steps are told of again."""
    async with desk.manager(), desk.worker_process() as doomed:
        await desk.submit("j1", script(3600, interval_ms=50))
        await desk.started("j1")
        await lose_the_queue(desk)
        doomed.kill()
        await doomed.wait()
        async with desk.worker(HASTY, name="heir"):
            end = await desk.done("j1")

    assert (end.worker, end.attempt) == ("heir", 2)
    assert await desk.story("j1") == ["queued", "started", "progress", "started", "progress", "done"]


async def test_a_new_manager_knows_what_the_last_one_has_queued(desk: Desk) -> None:
    """It read the queue before it was lost."""
    async with desk.manager():
        await desk.submit("j1")
        await wait_until(lambda: queued(desk.bus, 1), "the job is queued")
    async with desk.manager():
        await desk.submit("j2")
        await wait_until(lambda: queued(desk.bus, 2), "the new manager is at work")
        await lose_the_queue(desk)
        async with desk.worker():
            await desk.done("j1")
            await desk.done("j2")


async def test_what_was_lost_while_no_manager_was_there_comes_back(desk: Desk, stream_settings: StreamSettings) -> None:
    """Its events are all that tells of it: one waited, one was at work, one had ended, one is cancelled."""
    async with desk.manager(), desk.worker_process() as doomed:
        await desk.submit("ended")
        await desk.done("ended")
        await desk.submit("running", script(3600, interval_ms=50))
        await desk.started("running")
        for job_id in ("waiting", "cancelled"):
            await desk.submit(job_id)
        await wait_until(lambda: queued(desk.bus, 3), "two wait behind the one that runs")
        doomed.kill()
        await doomed.wait()
    end = Cancelled(job_id="cancelled")
    await desk.bus.publish_first(JOB_EV, subjects.end("cancelled"), end, msg_id="cancel")
    await lose_the_queue(desk)
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


async def test_what_has_ended_does_not_stay_in_the_queue(desk: Desk) -> None:
    """A broker whose disk was full may have noted the acknowledgement and kept the message: nobody would ask for it."""
    submit = JobSubmit(task=Task.WHITE_BALANCE, image=desk.photo)
    work = JobWork(job_id="j1", user="u1", job_class=JobClass.INTERACTIVE, log_seq=1, submit=submit)
    await desk.bus.publish_first(JOB_EV, subjects.end("j1"), Cancelled(job_id="j1"), msg_id="cancel")
    async with desk.manager():
        await desk.bus.publish(subjects.queue_entry("interactive", Task.WHITE_BALANCE, "u1", "j1"), work)
        await wait_until(lambda: queued(desk.bus, 0), "the queue is empty")


async def test_what_an_operator_has_forgotten_stays_forgotten(desk: Desk) -> None:
    """A job that left the log too was removed on purpose; another one, that did not, comes back."""
    async with desk.manager():
        await desk.submit("j1", user="leaver")
        await desk.submit("j2", user="stayer")
        await wait_until(lambda: queued(desk.bus, 2), "both wait")
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
async def test_an_advisory_of_a_lost_queue_harms_no_other_job(desk: Desk, stream_settings: StreamSettings) -> None:
    """The new queue counts from one again, so another job waits under the sequence of the one that was given up."""
    submit = JobSubmit(task=Task.WHITE_BALANCE, image=desk.photo)
    queue = worker_consumer(JobClass.INTERACTIVE, Task.WHITE_BALANCE)

    async def put(job_id: str) -> int:
        work = JobWork(job_id=job_id, user="u1", job_class=JobClass.INTERACTIVE, log_seq=1, submit=submit)
        return await desk.bus.publish(subjects.queue_entry("interactive", Task.WHITE_BALANCE, "u1", job_id), work)

    async def given_up() -> bool:
        await pull(desk.bus, JOB_Q, queue)
        return await desk.bus.first(ADVISORY, subjects.MAX_DELIVERIES) is not None

    async def heard() -> bool:
        reaper = await desk.bus.client.jetstream().consumer_info(ADVISORY, REAPER)
        return (reaper.num_pending, reaper.num_ack_pending) == (0, 0)

    before = await put("j1")
    await wait_until(given_up, "the broker has given up")
    await lose_the_queue(desk)
    await declaring.declare_streams(desk.bus, stream_settings)
    after = await put("j2")
    async with desk.manager():
        await wait_until(heard, "the reaper has heard of it")

    assert before == after
    assert await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD) == []
    assert await desk.bus.last(JOB_EV, subjects.end("j2")) is None
    assert await queued(desk.bus, 1)
