"""Cancel: it takes effect at once in every state of a job, and does not change a job that is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.jobmanager.dispatcher import Dispatcher
from services.jobmanager.durations import DurationEstimator
from services.jobmanager.settings import Settings
from shared import job_events, subjects
from shared.errors import WrongLastSequence
from shared.messages import Cancelled, Done, JobClass, Started
from shared.settings import StreamSettings
from shared.topology import DISPATCHERS, JOB_EV, JOB_LOG, JOB_Q
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.running import Desk


async def waiting(desk: Desk) -> list[str]:
    return sorted(
        subjects.parse_queue_entry(subject).job_id for subject in await desk.bus.subjects_in(JOB_Q, subjects.ALL_QUEUED)
    )


async def test_a_queued_job_is_taken_out_of_the_queue(desk: Desk) -> None:
    """Its place is free and the other jobs keep their places."""
    async with desk.manager():
        await desk.submit("j1")
        await desk.submit("j2")

        async def both() -> bool:
            return await waiting(desk) == ["j1", "j2"]

        async def one() -> bool:
            return await waiting(desk) == ["j2"]

        await wait_until(both, "both are queued")
        await desk.cancel("j1")

        await wait_until(one, "the cancelled one has left the queue")


async def test_a_queued_job_never_starts(desk: Desk) -> None:
    """The worker takes the next job."""
    async with desk.manager():
        await desk.submit("j1")
        await desk.cancel("j1")
        await desk.submit("j2")
        async with desk.worker():
            await desk.done("j2")

    assert (await desk.outcome("j1")).type == "cancelled"
    assert "started" not in await desk.story("j1")


class CancellingStore:
    """Cancels a job while the dispatcher checks its image, just after it found no terminal event."""

    def __init__(self, desk: Desk, job_id: str) -> None:
        self._desk = desk
        self._job_id = job_id

    async def renew(self, sha256: str) -> tuple[int | None, bool]:
        """See StoredInputs."""
        del sha256
        await self._desk.cancel(self._job_id)
        return 12, False


async def test_the_terminal_event_is_the_last_of_a_job(desk: Desk) -> None:
    """Also if it overtakes the announcement, or a counter of waiting jobs would count the job for ever."""
    settings = Settings(streams=StreamSettings(picture_bytes=1024**3))
    store = CancellingStore(desk, "j1")
    dispatcher = Dispatcher(desk.bus, store, JobClass.INTERACTIVE, DurationEstimator(), settings)

    async def is_settled() -> bool:
        if not await desk.stored_events("j1"):  # a consumer gets a submit a moment after it is stored
            return False
        consumer = await desk.bus.client.jetstream().consumer_info(JOB_LOG, DISPATCHERS[JobClass.INTERACTIVE])
        return bool(consumer.num_pending == consumer.num_ack_pending == 0)

    await desk.submit("j1")
    running = asyncio.create_task(dispatcher.run())
    await wait_until(is_settled, "the submit is settled")
    running.cancel()
    await asyncio.wait([running])

    assert await desk.story("j1") == ["cancelled"]
    assert await waiting(desk) == []


async def test_a_job_that_waits_behind_many_never_starts(desk: Desk) -> None:
    """The job is in the manager's fair queue, not in the broker's queue yet."""
    async with desk.manager():
        for number in range(15):
            await desk.submit(f"j{number}")
        await desk.cancel("j14")
        async with desk.worker():
            for number in range(14):
                await desk.done(f"j{number}")

            async def is_settled() -> bool:
                consumers = await desk.bus.client.jetstream().consumers_info(JOB_LOG)
                return all(consumer.num_ack_pending == 0 for consumer in consumers)

            await wait_until(is_settled, "the log is settled")

    assert "started" not in await desk.story("j14")


async def test_a_job_may_be_cancelled_without_the_manager(desk: Desk) -> None:
    """The manager is down and has not seen the job: it is never queued."""
    await desk.submit("j1")
    await desk.cancel("j1")
    async with desk.manager(), desk.worker():
        await desk.submit("j2")
        await desk.done("j2")

    record = await job_events.load_record(desk.bus, "j1")
    assert record is not None
    assert record.state == "cancelled"
    assert await desk.story("j1") == ["cancelled"]


async def test_a_worker_does_not_start_a_job_that_was_cancelled_in_the_queue(desk: Desk) -> None:
    """Even if the message is still in the queue when it comes, because the manager has gone."""
    async with desk.manager():
        await desk.submit("j1")

        async def is_queued() -> bool:
            return await waiting(desk) == ["j1"]

        await wait_until(is_queued, "it is queued")
    await desk.cancel("j1")

    async with desk.worker():

        async def empty() -> bool:
            return await waiting(desk) == []

        await wait_until(empty, "the worker has settled it")
    assert "started" not in await desk.story("j1")


async def test_a_running_job_stops_and_the_next_one_runs(desk: Desk) -> None:
    """The worker is free at once, although the job had an hour of work left."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(3600, interval_ms=1000 / 20))
        await desk.submit("j2")
        await desk.started("j1")
        await desk.cancel("j1")
        await desk.done("j2")

    async def empty() -> bool:
        return await waiting(desk) == []

    assert (await desk.outcome("j1")).type == "cancelled"
    await wait_until(empty, "the broker has settled both")


async def test_a_job_that_is_done_cannot_be_cancelled(desk: Desk) -> None:
    """A cancel that comes too late is refused."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        end = await desk.done("j1")

        in_time = await desk.cancel("j1")

    assert not in_time
    assert await desk.outcome("j1") == end


async def test_a_job_is_cancelled_once(desk: Desk) -> None:
    """Twenty cancels from twenty clients store one terminal event."""
    await desk.submit("j1")

    async def click(number: int) -> bool:
        event = Cancelled(job_id="j1")
        try:
            await desk.bus.publish_first(JOB_EV, subjects.end("j1"), event, msg_id=f"click-{number}")
        except WrongLastSequence:
            return False
        return True

    assert sum(await asyncio.gather(*(click(number) for number in range(20)))) == 1


@pytest.mark.parametrize("delay_steps", range(3))
async def test_cancel_and_result_race_and_one_of_them_wins(desk: Desk, delay_steps: int) -> None:
    """Cancel at any moment of twenty short jobs: a cancel that was in time ends the job, and all others are done."""
    async with desk.manager(), desk.worker():
        outcomes = []
        for number in range(20):
            job_id = f"j{number}"
            await desk.submit(job_id, script(2, interval_ms=number % 5))

            async def begun(job_id: str = job_id) -> bool:
                return len(await desk.events(job_id)) > delay_steps

            await wait_until(begun, "it has begun")
            in_time = await desk.cancel(job_id)
            outcomes.append((in_time, (await desk.outcome(job_id)).type))

    assert set(outcomes) <= {(True, "cancelled"), (False, "done")}


async def test_an_event_after_a_cancel_changes_nothing(desk: Desk) -> None:
    """A worker may report one more step before the cancel reaches it; the job stays cancelled."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(3600, interval_ms=50))
        await desk.started("j1")
        await desk.cancel("j1")
        await desk.submit("j2")
        await desk.done("j2")
    events = await desk.events("j1")

    assert sum(isinstance(event, Cancelled | Done) for event in events) == 1
    assert sum(isinstance(event, Started) for event in events) == 1
    record = await job_events.load_record(desk.bus, "j1")
    assert record is not None
    assert record.state == "cancelled"
