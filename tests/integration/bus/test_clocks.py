"""The wall clocks of two hosts differ: nothing on the bus depends on them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from services.jobmanager.board import Board
from services.jobmanager.durations import DurationEstimator
from services.jobmanager.projector import Projector
from services.jobmanager.reconciler import Reconciler
from services.jobmanager.submissions import queue_subject
from shared import deadlines, job_events, rpc, subjects
from shared.deadlines import Clocks
from shared.errors import Unavailable
from shared.messages import (
    HealthReply,
    HealthRequest,
    JobClass,
    JobSubmit,
    JobWork,
    Queued,
    Started,
    Task,
)
from shared.topology import JOB_Q, JOBS
from tests.gateway import SAMPLES, Client, b64
from tests.ports import free_port
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus
    from tests.running import Desk

ROOT = Path(__file__).parents[3]
SKEWS_S = [-3 * 86_400, -600, 600, 3 * 86_400]


def work_on(job_id: str, log_seq: int, photo: str) -> JobWork:
    submission = JobSubmit(task=Task.WHITE_BALANCE, image=photo)
    return JobWork(job_id=job_id, user="u1", job_class=JobClass.INTERACTIVE, log_seq=log_seq, submit=submission)


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
async def service(name: str, clock: Path, **variables: str) -> AsyncIterator[None]:
    """Run a service with a wall clock that is off by the present content of the file; its monotonic clock is right."""
    environment = {
        **os.environ,
        "LD_PRELOAD": libfaketime(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        **variables,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", f"services.{name}", cwd=ROOT, env=environment)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


MINUTES_S, DAYS_S = 10 * 60, 3 * 86_400
# Hosts that exchange messages differ as much as possible.
SIGNS = {"gateway": -1, "segmentation": 1, "imageutils": 1, "jobmanager": 1, "a100worker": -1}


def set_clocks(folder: Path, offset_s: int) -> None:
    """Let the clock of each service jump to this distance from the true time."""
    for name, sign in SIGNS.items():
        (folder / "new").write_text(f"{sign * offset_s:+d}")
        (folder / "new").rename(folder / name)


async def use_everything(client: Client) -> None:
    """Select, extract, and edit; all services are healthy."""
    cat = b64((SAMPLES / "cat.jpg").read_bytes())
    selected = await client.post("/api/smart-mask", json={"image": cat, "auto_detect": True})
    mask = selected.json()["mask_base64"]
    extracted = await client.post("/api/image-utils/extract-object", json={"image": cat, "mask": mask})
    task = await client.submit(prompt=script(3))
    result = await client.get(f"/api/generate/result-image/{task}")
    health = (await client.get("/api/system/health")).json()

    assert (selected.status_code, extracted.status_code, result.status_code) == (200, 200, 200)
    assert health["status"] == "healthy", health


async def error_s(client: Client) -> float:
    """Return how far the gateway's clock is ahead."""
    date = (await client.get("/api/health")).headers["date"]
    return parsedate_to_datetime(date).timestamp() - time.time()


@pytest.mark.timeout(180)
async def test_services_work_with_clocks_that_differ_and_jump(nats_url: str, tmp_path: Path) -> None:
    """Each is ahead or behind by minutes, and then all clocks jump by days to the other side while they run."""
    port = free_port()
    set_clocks(tmp_path, MINUTES_S)
    common = {"NATS_URL": nats_url, "A100WORKER_BACKEND": "scripted", "GATEWAY_PORT": str(port)}
    async with AsyncExitStack() as running:
        for name in SIGNS:
            await running.enter_async_context(service(name, tmp_path / name, **common))
        client = await running.enter_async_context(Client(port))

        async def all_healthy() -> bool:
            try:
                return bool((await client.get("/api/system/health")).json()["status"] == "healthy")
            except httpx.TransportError:
                return False

        await wait_until(all_healthy, "all services are healthy")
        assert await error_s(client) == pytest.approx(-MINUTES_S, abs=300)
        await use_everything(client)
        set_clocks(tmp_path, -DAYS_S)
        await use_everything(client)

        async def has_jumped() -> bool:
            return await error_s(client) == pytest.approx(DAYS_S, abs=300)

        await wait_until(has_jumped, "the gateway's clock has jumped")  # its header is renewed each second
