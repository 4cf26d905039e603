"""The wall clocks of two hosts differ: nothing on the bus depends on them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.jobmanager.board import Board
from services.jobmanager.durations import DurationEstimator
from services.jobmanager.projector import Projector
from services.jobmanager.reconciler import Reconciler
from services.jobmanager.submissions import queue_subject
from shared import deadlines, job_events, rpc, subjects
from shared.deadlines import Clocks
from shared.errors import Unavailable
from shared.image_codec import encode_png
from shared.messages import (
    ExtractRequest,
    HealthReply,
    HealthRequest,
    ImageReply,
    JobClass,
    JobSubmit,
    JobWork,
    Queued,
    Started,
    Task,
)
from shared.topology import JOB_Q, JOBS
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from tests.running import Desk

ROOT = Path(__file__).parents[2]
SKEWS_S = [-3 * 86_400, -600, 600, 3 * 86_400]


def work_on(job_id: str, log_seq: int, photo: str) -> JobWork:
    submit = JobSubmit(task=Task.WHITE_BALANCE, image=photo)
    return JobWork(job_id=job_id, user="u1", job_class=JobClass.INTERACTIVE, log_seq=log_seq, submit=submit)


async def start(bus: Bus, work: JobWork, skew_s: float, worker: str = "w1") -> None:
    """Publish the events of a job that a worker with another clock runs."""
    at = time.time() + skew_s
    queued = Queued(
        job_id=work.job_id,
        user=work.user,
        task=work.submit.task,
        job_class=work.job_class,
        log_seq=work.log_seq,
        total_steps=1,
        at=at,
    )
    await job_events.publish_event(bus, queued)
    await job_events.publish_event(bus, Started(job_id=work.job_id, worker=worker, engine="e", attempt=1, at=at))


@pytest.mark.parametrize("skew_s", SKEWS_S)
async def test_a_lost_job_waits_one_lease_by_the_managers_own_clock(desk: Desk, skew_s: float) -> None:
    """JOB_Q lost a job that runs: it is queued again after a lease without events, whatever time the events have."""
    now = [1000.0]
    work = work_on("j1", await desk.submit("j1"), desk.photo)
    await start(desk.bus, work, skew_s)
    board = Board()
    board.adopt(work, has_started=True)
    reconciler = Reconciler(desk.bus, board, JobClass.INTERACTIVE, 30.0, lambda: None, 5.0, lambda: now[0])

    queued = []
    for seconds in (0, 29, 2):
        now[0] += seconds
        await reconciler.compare()
        queued.append(await desk.bus.last(JOB_Q, queue_subject(work)) is not None)

    assert queued == [False, False, True]


@pytest.mark.parametrize("skew_s", SKEWS_S)
async def test_a_worker_counts_as_active_whatever_its_clock_shows(desk: Desk, skew_s: float) -> None:
    """An event counts from its arrival. Events from before the start of the projector do not count."""
    now = [1000.0]
    estimator = DurationEstimator(lambda: now[0])
    for number in range(3):
        await start(desk.bus, work_on(f"old{number}", 1, desk.photo), skew_s, f"gone{number}")

    async with projecting(desk.bus, estimator):
        await wait_until(lambda: has_records(desk.bus, 3), "the view has the old jobs")
        assert estimator.worker_count() == 1
        for number in range(2):
            await start(desk.bus, work_on(f"new{number}", 1, desk.photo), skew_s, f"w{number}")
        await wait_until(lambda: has_records(desk.bus, 5), "the view has the new jobs")
        await wait_until(lambda: estimator.worker_count() == 2, "two workers are active")

    now[0] += 121
    assert estimator.worker_count() == 1


@asynccontextmanager
async def projecting(bus: Bus, estimator: DurationEstimator) -> AsyncIterator[None]:
    """Run a projector."""
    task = asyncio.create_task(Projector(bus, estimator).run(), name="projector")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def has_records(bus: Bus, count: int) -> bool:
    return len(await bus.subjects_in(JOBS, subjects.ALL_RECORDS)) == count


# --- requests ----------------------------------------------------------------------------------------------------

HEALTH = subjects.health("segmentation")
FINE = HealthReply(service="segmentation", instance="s1", status="healthy")


async def report(_: HealthRequest) -> HealthReply:
    return FINE


async def ask(bus: Bus, timeout_s: float = 20.0) -> HealthReply:
    return await rpc.call(bus, HEALTH, HealthRequest(), HealthReply, timeout_s=timeout_s)


@pytest.mark.parametrize("skew_s", [*SKEWS_S, -5, 5])
async def test_clocks_need_not_agree(bare_bus: Bus, skew_s: float) -> None:
    """The service's wall clock is some seconds, minutes or days off, and the answer is the same."""
    async with rpc.serve(
        bare_bus,
        "segmentation",
        [rpc.Endpoint(HEALTH, HealthRequest, report)],
        clocks=Clocks(wall=lambda: time.time() + skew_s),
    ):
        assert await ask(bare_bus) == FINE


async def test_a_request_that_waited_too_long_for_a_slot_is_dropped(
    bare_bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """The wait counts on the service's monotonic clock, and the log names the request."""
    now, began, free, handled = [100.0], asyncio.Event(), asyncio.Event(), []

    async def queue_up(_: HealthRequest) -> HealthReply:
        began.set()
        await free.wait()
        deadlines.check()
        handled.append("one")
        return FINE

    clocks = Clocks(monotonic=lambda: now[0])
    async with rpc.serve(bare_bus, "segmentation", [rpc.Endpoint(HEALTH, HealthRequest, queue_up)], clocks=clocks):
        with caplog.at_level("WARNING"):
            asked = asyncio.create_task(ask(bare_bus, timeout_s=20), name="ask")
            await began.wait()
            now[0] += 20.5
            free.set()
            with pytest.raises(Unavailable, match="stopped waiting"):
                await asked

    assert handled == []
    assert [(line.getMessage(), vars(line)["late_ms"]) for line in caplog.records] == [("rpc.stale", 500)]


# --- whole services under another clock ----------------------------------------------------------------------------


def libfaketime() -> str:
    """Return the path of libfaketime. Without it the test is skipped."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed (Debian: apt-get install faketime).")
    return str(found[0])


@asynccontextmanager
async def service(name: str, nats_url: str, skew: str) -> AsyncIterator[None]:
    """Run a service whose wall clock is off; its monotonic clock is right."""
    environment = {
        **os.environ,
        "NATS_URL": nats_url,
        "A100WORKER_BACKEND": "scripted",
        "LD_PRELOAD": libfaketime(),
        "FAKETIME": skew,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", f"services.{name}", cwd=ROOT, env=environment)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def is_healthy(bus: Bus, name: str) -> bool:
    try:
        reply = await rpc.call(bus, subjects.health(name), HealthRequest(), HealthReply, timeout_s=2)
    except Unavailable:
        return False
    return reply.status == "healthy"


@pytest.mark.parametrize("skew", ["10m", "3d"])
async def test_services_work_together_with_clocks_that_differ(
    desk: Desk, images: NatsImageStore, nats_url: str, skew: str
) -> None:
    """The job manager is behind, the worker and the image utilities are ahead, by minutes or days."""
    mask = np.zeros((512, 512, 3), np.uint8)
    mask[100:200, 100:200] = 255
    stored = await images.put("inputs", encode_png(mask))
    async with AsyncExitStack() as running:
        for name, sign in {"jobmanager": "-", "a100worker": "+", "imageutils": "+"}.items():
            await running.enter_async_context(service(name, nats_url, sign + skew))
        for name in ("jobmanager", "a100worker", "imageutils"):
            await wait_until(lambda name=name: is_healthy(desk.bus, name), f"{name} is healthy")  # type: ignore[misc]
        await desk.submit("j1", script(3))
        done = await desk.done("j1")
        request = ExtractRequest(image=desk.photo, mask=stored.sha256)
        reply = await rpc.call(desk.bus, subjects.IMG_EXTRACT, request, ImageReply, timeout_s=30)

    assert abs(done.at - time.time()) > 500  # seconds: the clocks did differ
    assert await images.head("cache", reply.png.sha256) == reply.png
