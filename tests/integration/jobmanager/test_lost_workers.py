"""A lost worker: its job reports it at once, long before the lease ends, and never because of a pause of others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from services.jobmanager.watch.workers import WorkerWatch
from shared import job_events, subjects
from shared.bus import StoredMessage, open_bus
from shared.messages import (
    Cancelled,
    JobClass,
    JobState,
    Progress,
    Queued,
    Returned,
    Started,
    Task,
    WorkerAbilities,
)
from shared.settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Literal

    from services.stack.nats_server import NatsServer
    from shared.bus import Bus
    from shared.messages import JobEvent
    from tests.running import Desk

LOST = "The worker was lost; trying again"
QUEUED = Queued(job_id="j1", user="u1", task=Task.REMOVAL, job_class=JobClass.BATCH, log_seq=1, total_steps=9)
STEP = Progress(job_id="j1", phase="processing", step=3, total_steps=9, fraction=0.3)


def start_event(worker: str = "w1", attempt: int = 1) -> Started:
    return Started(job_id="j1", worker=worker, engine="e", attempt=attempt)


def announcement(
    job_id: str | None = "j1", *, worker: str = "w1", state: Literal["ready", "stopped"] = "ready"
) -> StoredMessage:
    abilities = WorkerAbilities(worker=worker, engine="e", tasks={}, job=job_id, state=state)
    return StoredMessage(0, subjects.WORKERS, abilities.model_dump_json().encode())


def live(event: JobEvent) -> StoredMessage:
    return StoredMessage(9, subjects.event(event.job_id, "any"), event.model_dump_json().encode())


async def publish(bus: Bus, *events: JobEvent) -> None:
    for event in events:
        await job_events.publish_event(bus, event)


async def look(watch: WorkerWatch, times: int) -> None:
    for _ in range(times):
        await watch.look()


async def reports(desk: Desk) -> list[Returned]:
    return [event for event in await desk.events("j1") if isinstance(event, Returned)]


async def test_a_lost_workers_job_is_reported(desk: Desk) -> None:
    """The view shows a queued job with the reason, and the next worker does not report it once more."""
    watch = WorkerWatch(desk.bus, 3)
    await publish(desk.bus, QUEUED, start_event(), STEP)
    watch.note(announcement())
    await look(watch, 8)
    (report,) = await reports(desk)
    record = await job_events.load_record(desk.bus, "j1")

    assert (report.worker, report.attempt, report.reason, report.message) == ("w1", 1, "vanished", LOST)
    assert record is not None
    assert (record.state, record.message) == (JobState.QUEUED, LOST)
    assert not job_events.ended_unreported(await job_events.load_attempts(desk.bus, "j1"))


async def test_three_missed_announcements_are_a_loss(desk: Desk) -> None:
    """Not fewer; and two job managers report it once."""
    await publish(desk.bus, QUEUED, start_event(), STEP)
    watches = [WorkerWatch(desk.bus, 3) for _ in range(2)]
    for watch in watches:
        watch.note(announcement())
        await look(watch, 3)
    early = await reports(desk)
    for watch in watches:
        await look(watch, 4)

    assert early == []
    assert len(await reports(desk)) == 1


async def test_a_worker_that_dies_between_two_announcements_is_known_by_its_start(desk: Desk) -> None:
    """Its last announcement names no job. One that never announced itself is of an older release, and left alone."""
    watch = WorkerWatch(desk.bus, 3)
    await publish(desk.bus, QUEUED, start_event())
    watch.note_start(live(start_event()))
    await look(watch, 8)
    unknown = await reports(desk)
    watch.note(announcement(None))
    watch.note_start(live(start_event()))
    await look(watch, 8)

    assert unknown == []
    assert len(await reports(desk)) == 1


async def test_a_worker_that_was_restarted_has_lost_its_job(desk: Desk) -> None:
    """It announces itself under the same name, without the job."""
    watch = WorkerWatch(desk.bus, 3)
    await publish(desk.bus, QUEUED, start_event(), STEP)
    watch.note(announcement())
    for _ in range(8):
        await watch.look()
        watch.note(announcement(None))

    assert len(await reports(desk)) == 1


async def test_a_frozen_worker_that_returns_goes_on(desk: Desk) -> None:
    """Its next step makes the job running again; a second freeze is not reported, and no attempt is counted twice."""
    watch = WorkerWatch(desk.bus, 3)
    await publish(desk.bus, QUEUED, start_event(), STEP)
    watch.note(announcement())
    await look(watch, 8)
    await publish(desk.bus, STEP.model_copy(update={"step": 4}))
    record = await job_events.load_record(desk.bus, "j1")
    watch.note(announcement())
    await look(watch, 8)

    assert record is not None
    assert (record.state, record.step, record.message) == (JobState.RUNNING, 4, None)
    assert len(await reports(desk)) == 1
    assert job_events.count_used_attempts(await job_events.load_attempts(desk.bus, "j1")) == 1


async def test_a_late_report_does_not_touch_the_next_attempt(desk: Desk) -> None:
    """Another worker has the job, or it has ended: nothing is reported. A report that comes late changes no view."""
    watch = WorkerWatch(desk.bus, 3)
    await publish(desk.bus, QUEUED, start_event(), STEP)
    watch.note(announcement())
    await publish(desk.bus, start_event("w2", 2), STEP)
    await look(watch, 8)
    not_reported = await reports(desk)
    await publish(desk.bus, Returned(job_id="j1", worker="w1", attempt=1, reason="vanished", message=LOST))
    record = await job_events.load_record(desk.bus, "j1")
    watch.note(announcement(worker="w2"))
    await job_events.publish_end(desk.bus, Cancelled(job_id="j1"), msg_id="c")
    await look(watch, 8)

    assert not_reported == []
    assert record is not None
    assert (record.state, record.worker, record.attempt, record.message) == (JobState.RUNNING, "w2", 2, None)
    assert len(await reports(desk)) == 1


async def test_a_worker_that_stops_is_not_lost(desk: Desk) -> None:
    """Its job was handed back, which is reported by the worker itself."""
    watch = WorkerWatch(desk.bus, 3)
    await publish(desk.bus, QUEUED, start_event(), Returned(job_id="j1", worker="w1", attempt=1, reason="stopping"))
    for last in (announcement(), announcement(state="stopped")):
        watch.note(announcement())
        watch.note(last)
        await look(watch, 8)

    assert [each.reason for each in await reports(desk)] == ["stopping"]


async def test_the_last_attempt_promises_no_other(desk: Desk) -> None:
    """The next worker that polls writes the dead letter, which has this attempt as vanished."""
    watch = WorkerWatch(desk.bus, 1)
    await publish(desk.bus, QUEUED, start_event(), STEP)
    watch.note(announcement())
    await look(watch, 8)

    assert [each.message for each in await reports(desk)] == [None]
    assert [each.outcome for each in await job_events.load_attempts(desk.bus, "j1")] == ["vanished"]


async def test_a_restart_of_the_broker_makes_no_worker_a_lost_one(desk: Desk, nats_server: NatsServer) -> None:
    """Announcements are missing on both sides of it, and workers need a moment to connect again."""
    await publish(desk.bus, QUEUED, start_event(), STEP)
    async with own_bus(nats_server) as bus:
        watch = WorkerWatch(bus, 3)
        await watch.look()
        watch.note(announcement())
        await look(watch, 3)
        connects = bus.connects
        await nats_server.kill()
        await nats_server.start()
        await bus.next_connect(connects)
        await look(watch, 3)
    await desk.bus.up.wait()

    assert await reports(desk) == []


@asynccontextmanager
async def own_bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with open_bus(NatsSettings(url=nats_server.url), "watcher") as bus:
        yield bus
