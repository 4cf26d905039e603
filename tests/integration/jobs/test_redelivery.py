"""Workers that die, stop or fail: their job runs again elsewhere, and a living worker keeps its job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared import subjects
from shared.errors import BrokerUnavailable, CardLost
from shared.messages import DeadLetter, Failed, Returned, Started
from shared.settings import StreamSettings
from shared.topology import JOB_DLQ, JOB_Q
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.stack.nats_server import NatsServer
    from tests.running import Desk


ENDLESS = script(3600, interval_ms=50)
LOST = "The worker was lost; trying again"
HASTY = "tests.fakes:HastyEngine"  # ends at once and ignores the prompt
short_leases = pytest.mark.parametrize(
    "stream_settings", [StreamSettings(lease_s=3.0, picture_bytes=1024**3)], ids=["short leases"]
)


@short_leases
async def test_a_killed_workers_job_runs_again(desk: Desk) -> None:
    """After a SIGKILL and the end of the lease another worker runs the job from its beginning."""
    async with desk.manager(), desk.worker_process() as doomed:
        await desk.submit("j1", ENDLESS)
        await desk.started("j1")
        doomed.kill()
        await doomed.wait()
        async with desk.worker(HASTY, name="heir"):
            end = await desk.done("j1")

    assert (end.attempt, end.worker) == (2, "heir")
    assert await desk.attempts("j1") == [1, 2]
    story = [kind for kind in await desk.story("j1") if kind != "returned"]
    assert story == ["queued", "started", "progress", "started", "progress", "done"]
    (notice,) = [event for event in await desk.events("j1") if getattr(event, "message", "") == LOST]
    assert notice.type in {
        "progress",
        "returned",
    }  # by the heir, or before it by a job manager that noticed the silence


@short_leases
async def test_a_long_job_keeps_its_lease(desk: Desk) -> None:
    """The job lasts two leases, and an idle worker would take it."""
    async with desk.manager(), desk.worker(name="w1"), desk.worker(name="w2"):
        await desk.submit("j1", script(65, interval_ms=100))
        await desk.done("j1")

    assert await desk.attempts("j1") == [1]


async def test_a_failed_attempt_is_retried(desk: Desk) -> None:
    """EngineFailed is retried, and without a dead letter only the log shows it."""
    async with desk.manager(), desk.worker("tests.fakes:MoodyEngine"):
        await desk.submit("j1")
        end = await desk.done("j1")

    assert end.attempt == 2
    assert await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD) == []


async def test_a_job_without_a_cancel_is_not_lost(desk: Desk) -> None:
    """An engine may raise JobCancelled without a cancel: a job without a terminal event has not ended."""
    async with desk.manager(), desk.worker("tests.fakes:SulkingEngine"):
        await desk.submit("j1")
        end = await desk.outcome("j1")

    assert isinstance(end, Failed)
    assert await desk.attempts("j1") == [1, 2, 3]


async def test_a_worker_that_stops_finishes_its_job(desk: Desk) -> None:
    """Within the drain time."""
    async with desk.manager(), desk.worker(drain_s=10) as stop:
        await desk.submit("j1", script(20, interval_ms=20))
        await desk.started("j1")
        stop.set()
        end = await desk.done("j1")

    assert end.attempt == 1


async def test_a_worker_that_stops_hands_its_job_back(desk: Desk) -> None:
    """At once, without waiting for the lease to end; another worker runs it."""
    async with desk.manager(), desk.worker(name="leaver", drain_s=0.1) as stop:
        await desk.submit("j1", ENDLESS)
        await desk.started("j1")
        stop.set()
        async with desk.worker(HASTY, name="heir"):
            end = await desk.done("j1")

    assert (end.worker, end.attempt) == ("heir", 1)
    assert await desk.story("j1") == ["queued", "started", "progress", "returned", "started", "progress", "done"]


async def test_handing_back_costs_no_attempt(desk: Desk) -> None:
    """Five workers in a row stop, though a job has three attempts; the sixth one runs it."""
    async with desk.manager():
        await desk.submit("j1", ENDLESS)
        for _ in range(5):
            async with desk.worker(drain_s=0.0) as stop:
                await desk.started_again("j1")
                stop.set()
        async with desk.worker(HASTY):
            end = await desk.done("j1")

    assert end.attempt == 1
    assert await desk.attempts("j1") == [1] * 6
    assert await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD) == []


async def test_a_handed_back_job_still_fails_after_its_attempts(desk: Desk) -> None:
    """One worker stops, three fail: the letter lists all four and counts three."""
    async with desk.manager():
        await desk.submit("j1", ENDLESS)
        async with desk.worker(drain_s=0.0) as stop:
            await desk.started("j1")
            stop.set()
        async with desk.worker("tests.fakes:FailingEngine"):
            await desk.failed("j1")
    (stored,) = await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD)
    letter = DeadLetter.model_validate_json(stored.data)

    assert [(each.number, each.outcome) for each in letter.history] == [
        (1, "stopping"),
        (1, "engine_failed"),
        (2, "engine_failed"),
        (3, "engine_failed"),
    ]
    assert letter.attempts == 3


@pytest.mark.parametrize("stream_settings", [StreamSettings(max_deliver=1, max_handbacks=1, picture_bytes=1024**3)])
async def test_a_job_is_not_handed_back_without_end(desk: Desk) -> None:
    """It may be handed back once, and is dead-lettered after the second worker stops too."""
    async with desk.manager():
        await desk.submit("j1", ENDLESS)
        for _ in range(2):
            async with desk.worker(drain_s=0.0) as stop:
                await desk.started_again("j1")
                stop.set()
        async with desk.worker():  # the broker counts deliveries when a worker pulls
            end = await desk.failed("j1")

    assert end.code == "max_deliver"
    assert await desk.attempts("j1") == [1, 1]


async def test_a_worker_that_stops_takes_no_new_job(desk: Desk) -> None:
    """Waiting jobs stay in the queue for other workers."""
    async with desk.manager(), desk.worker(drain_s=10) as stop:
        await desk.submit("j1", ENDLESS)
        await desk.submit("j2")
        await desk.started("j1")
        stop.set()
        await desk.cancel("j1")

    async def one_waits() -> bool:
        return len(await desk.bus.subjects_in(JOB_Q, subjects.ALL_QUEUED)) == 1

    await wait_until(one_waits, "the broker has settled the other")
    assert await desk.attempts("j2") == []


@pytest.mark.parametrize(
    ("backend", "drain_s", "prompt", "attempts"),
    [
        ("scripted", "20", script(20, interval_ms=30), [1]),
        ("scripted", "0.1", ENDLESS, [1, 1]),
        ("tests.fakes:DeafEngine", "0.1", "", [1, 1]),
    ],
    ids=["enough time", "too little time", "a step that does not end"],
)
async def test_sigterm_ends_a_worker_cleanly(
    desk: Desk, backend: str, drain_s: str, prompt: str, attempts: list[int]
) -> None:
    """Exit code 0, and the job is done: by this worker if there is time, otherwise by the next one."""
    async with desk.manager():
        async with desk.worker_process(backend, A100WORKER_DRAIN_S=drain_s) as process:
            await desk.submit("j1", prompt)
            await desk.started("j1")
            process.terminate()
            code = await process.wait()
        async with desk.worker(HASTY, name="heir"):
            await desk.done("j1")

    assert code == 0
    assert await desk.attempts("j1") == attempts


async def test_a_lost_broker_costs_no_attempt(desk: Desk, nats_server: NatsServer) -> None:
    """Steps that cannot be published do not end the job: its first attempt succeeds."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(60, interval_ms=100))  # longer than the outage of the broker
        await desk.started("j1")
        await nats_server.kill()
        await wait_until(lambda: not desk.bus.is_connected, "the client has noticed")
        with pytest.raises(BrokerUnavailable):
            await desk.bus.publish(
                subjects.dead_letter("test", "j9"), b"x", deadline_s=60
            )  # gives up after two seconds
        await nats_server.start()
        await desk.bus.up.wait()
        end = await desk.done("j1")

    assert end.attempt == 1


async def test_a_lost_card_ends_its_worker_and_frees_the_job_at_once(desk: Desk) -> None:
    """Each loss counts as an attempt, and none waits for the end of a lease of half a minute."""
    codes = []
    async with desk.manager():
        await desk.submit("j1")
        for _ in range(3):
            async with desk.worker_process("tests.fakes:CardLosingEngine") as worker:
                codes.append(await worker.wait())
        end = await desk.outcome("j1")
        events = await desk.events("j1")

    assert isinstance(end, Failed)
    assert (end.code, end.message, end.attempt) == ("card_lost", CardLost().message, 3)
    assert [event.reason for event in events if isinstance(event, Returned)] == ["card_lost"] * 3
    assert codes == [1, 1, 1]
    assert end.at - events[0].at < 25  # a lease lasts 30 s


@short_leases
async def test_a_worker_without_its_lease_cannot_overwrite_the_result(desk: Desk) -> None:
    """Two attempts overlap if a machine hangs; the first end counts."""
    async with desk.manager(), desk.worker_process() as hung:
        await desk.submit("j1", ENDLESS)
        await desk.started("j1")
        hung.pause()
        async with desk.worker(HASTY, name="heir"):
            end = await desk.done("j1")
            hung.resume()

            async def is_settled() -> bool:
                return await desk.bus.subjects_in(JOB_Q, subjects.ALL_QUEUED) == []

            await wait_until(is_settled, "the queue is empty")
            await desk.submit("j2")
            await desk.done("j2")

    assert end.worker == "heir"
    assert await desk.outcome("j1") == end
    starts = [event.worker for event in await desk.events("j1") if isinstance(event, Started)]
    assert starts[-1] == "heir"
