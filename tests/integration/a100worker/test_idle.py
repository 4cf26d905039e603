"""A worker without jobs sends no polls to the broker, and still finds each job without an announcement."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from shared import subjects
from shared.topology import JOB_Q
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.stack.nats_server import NatsServer
    from shared.bus import StoredMessage
    from tests.running import Desk

LOOK = subjects.api("STREAM.INFO", JOB_Q)
HASTY = "tests.fakes:HastyEngine"


async def test_an_idle_worker_only_lists_the_queues(desk: Desk) -> None:
    """One request every ten intervals, where it polled six consumers in each."""
    asked: Counter[str] = Counter()

    def note(stored: StoredMessage) -> None:
        asked[stored.subject] += 1

    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.done("j1")
        await wait_until(lambda: _is_empty(desk), "the job is settled")
        async with desk.bus.subscribe("$JS.API.*.INFO.JOB_Q", note), desk.bus.subscribe("$JS.API.CONSUMER.>", note):
            await wait_until(lambda: asked[LOOK] > 0, "the worker has looked")
            asked.clear()
            await wait_until(lambda: asked[LOOK] >= 3, "the worker has looked three times")

    assert {subject for subject in asked if subject.startswith(subjects.api("CONSUMER.MSG.NEXT", JOB_Q))} == set()


async def test_a_job_is_found_after_the_broker_was_away(desk: Desk, nats_server: NatsServer) -> None:
    """The worker missed its announcement, because it was not connected."""
    async with desk.manager(), desk.worker(HASTY):
        await nats_server.kill()
        await nats_server.start()
        await desk.bus.up.wait()
        await desk.submit("j1")

        assert (await desk.done("j1")).attempt == 1


async def test_an_odd_subject_in_the_queue_harms_nobody(desk: Desk) -> None:
    """An operator published it by hand; jobs in the other queues run."""
    async with desk.manager():
        await desk.bus.publish("job.q.a100.batch.removal.u(1).j0", b"{}", msg_id="odd")
        async with desk.worker(HASTY):
            await desk.submit("j1")

            assert (await desk.done("j1")).attempt == 1


async def _is_empty(desk: Desk) -> bool:
    return await desk.bus.subjects_in(JOB_Q, subjects.ALL_QUEUED) == []
