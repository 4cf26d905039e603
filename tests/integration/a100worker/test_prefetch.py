"""Prefetch: while one job runs, the worker fetches the inputs of the next job, which stays in its queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.a100worker.job.prefetch import Prefetcher
from services.a100worker.job.queues import ALL_QUEUES, PollOrder
from shared import subjects
from shared.deliveries import pull
from shared.image_store import CachedImageStore
from shared.messages import JobClass, JobSubmit, JobWork, Started, Task
from shared.topology import JOB_Q, bucket_stream, worker_consumer
from tests.chaos.load.pictures import noise
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
    submission = JobSubmit(task=task, image=SHA)
    work = JobWork(job_id=job_id, user="u1", job_class=job_class, log_seq=1, submit=submission)
    await bus.publish(subjects.queue_entry(job_class, task, "u1", job_id), work)


@pytest.fixture
def prefetcher(bus: Bus) -> Prefetcher:
    """Return a prefetcher that reads all queues."""
    order = PollOrder(20.0)
    order.mark(*ALL_QUEUES)
    return Prefetcher(bus, CachedImageStore(FakeImageStore(), "inputs", 1000), order)


async def next_id(prefetcher: Prefetcher, running: int = 0) -> str | None:
    work = await prefetcher.find_next(running)
    return None if work is None else work.job_id


async def test_the_next_job_is_found_and_stays_in_its_queue(bus: Bus, prefetcher: Prefetcher) -> None:
    """It follows the running one, and no worker has a delivery of it."""
    consumer = worker_consumer(JobClass.INTERACTIVE, Task.WHITE_BALANCE)
    await put(bus, "mine")
    await put(bus, "next")
    mine = await pull(bus, JOB_Q, consumer, wait_s=1.0)
    assert mine is not None

    assert await next_id(prefetcher, mine.seq) == "next"
    info = await bus.client.jetstream().consumer_info(JOB_Q, consumer)
    assert (info.num_ack_pending, info.num_pending) == (1, 1)


async def test_a_job_that_runs_elsewhere_is_skipped(bus: Bus, prefetcher: Prefetcher) -> None:
    """It stays in the queue until it is settled."""
    await put(bus, "theirs")
    await put(bus, "next")
    started = Started(job_id="theirs", worker="w2", engine="e", attempt=1)
    await bus.publish(subjects.event("theirs", "started"), started)

    assert await next_id(prefetcher) == "next"


async def test_interactive_jobs_are_next_before_batch_jobs(bus: Bus, prefetcher: Prefetcher) -> None:
    """As when a worker takes them."""
    await put(bus, "batch", job_class=JobClass.BATCH)
    assert await next_id(prefetcher) == "batch"
    await put(bus, "person", Task.REMOVAL)
    assert await next_id(prefetcher) == "person"


async def test_an_empty_queue_and_an_unreadable_job_have_no_inputs(bus: Bus, prefetcher: Prefetcher) -> None:
    """The worker that takes it reports the error."""
    assert await next_id(prefetcher) is None
    await bus.publish(subjects.queue_entry("batch", "removal", "u1", "j1"), b"{")
    assert await next_id(prefetcher) is None


async def test_a_job_runs_on_images_that_were_prefetched(
    desk: Desk, images: NatsImageStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker does not read them from the store again."""
    caplog.set_level("INFO")
    other = await images.put("inputs", noise(32))
    async with desk.manager(), desk.worker():
        await desk.submit("long", script(3600, interval_ms=50))
        await desk.started("long")
        await desk.submit("next", image=other.sha256)
        await wait_until(lambda: "job.prefetched" in caplog.messages, "the inputs are prefetched")
        await desk.bus.purge(bucket_stream("inputs"), subjects.object_chunks("inputs", ">"))
        await desk.cancel("long")
        await desk.done("next")
