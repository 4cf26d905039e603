"""While one job runs, the inputs of the next one come to the worker; the job itself stays in the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.a100worker.job.prefetch import LookAhead
from services.a100worker.job.queues import ALL_LINES, Lines
from shared import subjects
from shared.deliveries import pull
from shared.image_store import CachedImageStore
from shared.messages import JobClass, JobSubmit, JobWork, Started, Task
from shared.topology import JOB_Q, bucket_stream, worker_consumer
from tests.chaos.pictures import noise
from tests.fakes import FakeImageStore
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from tests.running import Desk

SHA = "ab" * 32


async def put(
    bus: Bus, job_id: str, task: Task = Task.WHITE_BALANCE, job_class: JobClass = JobClass.INTERACTIVE
) -> None:
    """Queue a job, as the dispatcher does."""
    submit = JobSubmit(task=task, image=SHA)
    work = JobWork(job_id=job_id, user="u1", job_class=job_class, log_seq=1, submit=submit)
    await bus.publish(subjects.queue_entry(job_class, task, "u1", job_id), work)


@pytest.fixture
def ahead(bus: Bus) -> LookAhead:
    """Looks into all lines."""
    lines = Lines(20.0)
    lines.note(*ALL_LINES)
    return LookAhead(bus, CachedImageStore(FakeImageStore(), "inputs", 1000), lines)


async def next_id(ahead: LookAhead, running: int = 0) -> str | None:
    work = await ahead.next(running)
    return None if work is None else work.job_id


async def test_the_next_job_is_seen_and_left_where_it_is(bus: Bus, ahead: LookAhead) -> None:
    """Behind the one that this worker runs; nobody has a delivery of it."""
    consumer = worker_consumer(JobClass.INTERACTIVE, Task.WHITE_BALANCE)
    await put(bus, "mine")
    await put(bus, "next")
    mine = await pull(bus, JOB_Q, consumer, wait_s=1.0)
    assert mine is not None

    assert await next_id(ahead, mine.seq) == "next"
    info = await bus.client.jetstream().consumer_info(JOB_Q, consumer)
    assert (info.num_ack_pending, info.num_pending) == (1, 1)


async def test_what_runs_elsewhere_is_passed_over(bus: Bus, ahead: LookAhead) -> None:
    """Others' jobs are in the queue until they are settled."""
    await put(bus, "theirs")
    await put(bus, "next")
    started = Started(job_id="theirs", worker="w2", engine="e", attempt=1)
    await bus.publish(subjects.event("theirs", "started"), started)

    assert await next_id(ahead) == "next"


async def test_interactive_jobs_are_next_before_batch_jobs(bus: Bus, ahead: LookAhead) -> None:
    """As they are when they are taken."""
    await put(bus, "batch", job_class=JobClass.BATCH)
    assert await next_id(ahead) == "batch"
    await put(bus, "person", Task.REMOVAL)
    assert await next_id(ahead) == "person"


async def test_an_empty_queue_and_an_unreadable_job_have_no_inputs(bus: Bus, ahead: LookAhead) -> None:
    """Its worker will say what is wrong with it."""
    assert await next_id(ahead) is None
    await bus.publish(subjects.queue_entry("batch", "removal", "u1", "j1"), b"{")
    assert await next_id(ahead) is None


async def test_a_job_runs_on_pictures_that_came_while_another_one_ran(
    desk: Desk, images: NatsImageStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The store has lost them since: the worker does not need it any more."""
    caplog.set_level("INFO")
    other = await images.put("inputs", noise(32))
    async with desk.manager(), desk.worker():
        await desk.submit("long", script(3600, interval_ms=50))
        await desk.started("long")
        await desk.submit("next", image=other.sha256)
        await wait_until(lambda: "job.fetched-ahead" in caplog.messages, "the inputs are there")
        await desk.bus.purge(bucket_stream("inputs"), subjects.object_chunks("inputs", ">"))
        await desk.cancel("long")
        await desk.done("next")
