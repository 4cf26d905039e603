"""Releases side by side: a message of a newer release fails no job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from shared import subjects
from shared.messages import Done, JobWork, Queued
from shared.topology import JOB_DLQ, JOB_EV, JOB_LOG, JOB_Q, JOBS, PROJECTOR
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.running import Desk


def body(desk: Desk, **fields: object) -> bytes:
    return json.dumps({"task": "white-balance", "image": desk.photo, **fields}).encode()


async def test_a_job_of_a_newer_gateway_runs(desk: Desk) -> None:
    """It has one field that this release does not know. The `queued` event names it, and the worker receives it."""
    async with desk.manager():
        await desk.submit_raw("j1", body(desk, promt="a cat"))
        await wait_until(lambda: desk.bus.first(JOB_Q, subjects.queue_entries_of("j1")), "the job is queued")
        waiting = await desk.bus.first(JOB_Q, subjects.queue_entries_of("j1"))
        async with desk.worker():
            end = await desk.outcome("j1")
    queued = (await desk.events("j1"))[0]

    assert isinstance(end, Done)
    assert isinstance(queued, Queued)
    assert queued.ignored_fields == ["promt"]
    assert waiting is not None
    assert JobWork.model_validate_json(waiting.data).submit.unknown_fields() == ["promt"]


async def test_a_job_without_unknown_fields_names_none(desk: Desk) -> None:
    """A gateway of 0.1.0 refuses an event with a field that it does not know."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.done("j1")
    stored = await desk.bus.last(JOB_EV, subjects.event("j1", "queued"))

    assert stored is not None
    assert b"ignored_fields" not in stored.data


@pytest.mark.parametrize("change", [{"task": "relight"}, {"v": 2}], ids=str)
async def test_a_submission_that_only_a_newer_manager_can_read_waits_for_it(
    desk: Desk, change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """It is handed back: no dead letter, no end. Other jobs run meanwhile, and its owner can cancel it."""
    async with desk.manager(), desk.worker():
        await desk.submit_raw("newer", body(desk, **change))
        await desk.submit("j1")
        await desk.done("j1")
        await wait_until(lambda: "job.newer" in caplog.messages, "the job manager has handed it back")

        assert await desk.stored_events("newer") == []
        assert await desk.bus.subjects_in(JOB_DLQ, subjects.ALL_DEAD) == []
        assert await desk.bus.first(JOB_LOG, subjects.submissions_of("newer")) is not None
        assert await desk.cancel("newer")


async def test_a_queued_job_that_only_a_newer_worker_can_read_waits_for_it(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker returns it to the queue and counts no attempt."""
    subject = subjects.queue_entry("interactive", "white-balance", "u1", "newer")
    async with desk.worker():
        await desk.bus.publish(subject, b'{"v": 2, "job": {"id": "newer"}}')
        await wait_until(lambda: "job.newer" in caplog.messages, "the worker has handed it back")

    assert await desk.stored_events("newer") == []
    assert await desk.bus.subjects_in(JOB_DLQ, subjects.ALL_DEAD) == []
    assert await desk.bus.last(JOB_Q, subject) is not None


async def test_an_event_that_only_a_newer_projector_can_read_waits_for_it(desk: Desk) -> None:
    """It stays unsettled, other events are folded meanwhile, and the next projector gets it again."""
    await desk.bus.publish(subjects.event("newer", "queued"), b'{"v": 2, "type": "queued", "job_id": "newer"}')
    for _ in range(2):
        async with desk.manager(), desk.worker():
            await desk.submit("j1")
            await wait_until(lambda: has_settled_the_rest(desk), "all other events are settled")

    assert await desk.bus.first(JOBS, subjects.job_record_anywhere("newer")) is None


async def has_settled_the_rest(desk: Desk) -> bool:
    info = await desk.bus.client.jetstream().consumer_info(JOB_EV, PROJECTOR)
    ended = await desk.bus.subjects_in(JOB_EV, subjects.EVERY_END)
    return bool(ended) and (info.num_pending, info.num_ack_pending) == (0, 1)
