"""Run again: a range of the log, or what has died; always as new jobs, and a rehearsal changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared import rpc, subjects
from shared.errors import BadInput
from shared.messages import JobClass, Queued, RedriveRequest, ReplayReply, ReplayRequest, Task
from shared.topology import JOB_DLQ, JOB_LOG

if TYPE_CHECKING:
    from tests.running import Desk


async def replay(desk: Desk, **fields: object) -> ReplayReply:
    request = ReplayRequest.model_validate(fields)
    return await rpc.call(desk.bus, subjects.JOB_REPLAY, request, ReplayReply, timeout_s=5)


async def redrive(desk: Desk, **fields: object) -> ReplayReply:
    request = RedriveRequest.model_validate(fields)
    return await rpc.call(desk.bus, subjects.JOB_REDRIVE, request, ReplayReply, timeout_s=5)


async def logged(desk: Desk) -> int:
    return int((await desk.bus.client.jetstream().stream_info(JOB_LOG)).state.messages)


async def test_a_range_of_the_log_runs_again(desk: Desk) -> None:
    """In its order, each under a new id, with the same result."""
    async with desk.manager(), desk.worker():
        for number in (1, 2, 3):
            await desk.submit(f"j{number}", seed=number)
        first = [await desk.done(f"j{number}") for number in (1, 2, 3)]
        reply = await replay(desk, from_seq=2, to_seq=3)
        again = [await desk.done(str(job.new_job_id)) for job in reply.jobs]

    assert [(job.log_seq, job.job_id) for job in reply.jobs] == [(2, "j2"), (3, "j3")]
    assert [end.result for end in again] == [end.result for end in first[1:]]


async def test_one_seq_is_a_range_too(desk: Desk) -> None:
    """Without `to_seq`, one job."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.submit("j2")
        reply = await replay(desk, from_seq=1)

        assert [job.job_id for job in reply.jobs] == ["j1"]
        await desk.done(str(reply.jobs[0].new_job_id))


async def test_a_rehearsal_changes_nothing(desk: Desk) -> None:
    """It says what would run."""
    async with desk.manager():
        await desk.submit("j1")
        reply = await replay(desk, from_seq=1, to_seq=5, dry_run=True)

    assert [(job.job_id, job.new_job_id) for job in reply.jobs] == [("j1", None)]
    assert await logged(desk) == 1


async def test_a_replay_may_wait_behind_the_people(desk: Desk) -> None:
    """An operator's thousand jobs need not be interactive because they once were."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", job_class="interactive")
        reply = await replay(desk, from_seq=1, job_class="batch")
        new_id = str(reply.jobs[0].new_job_id)
        await desk.done(new_id)
    queued = (await desk.events(new_id))[0]

    assert isinstance(queued, Queued)
    assert queued.job_class is JobClass.BATCH


@pytest.mark.parametrize(("from_seq", "to_seq"), [(5, 4), (1, 1001)], ids=["empty", "too long"])
async def test_a_range_without_sense_is_refused(desk: Desk, from_seq: int, to_seq: int) -> None:
    """A reply must fit into one message."""
    async with desk.manager():
        with pytest.raises(BadInput, match="The range must hold 1 to 1000 submits"):
            await replay(desk, from_seq=from_seq, to_seq=to_seq)


@pytest.mark.parametrize("strange", ["ops.j1", "ops.j:1"], ids=["body", "address"])
async def test_what_could_not_be_read_is_not_run_again(desk: Desk, strange: str) -> None:
    """It would only die again; the others of the range are not held up."""
    await desk.bus.publish(f"job.submit.a100.interactive.{strange}", b"{")
    await desk.submit("j2")
    async with desk.manager():
        reply = await replay(desk, from_seq=1, to_seq=2)

    assert [bool(job.problem) for job in reply.jobs] == [True, False]
    assert await logged(desk) == 3


async def test_all_that_died_is_run_again(desk: Desk) -> None:
    """Its letters are gone then; what dies again writes new ones."""
    async with desk.manager():
        async with desk.worker("tests.fakes:FailingEngine"):
            for job_id in ("j1", "j2"):
                await desk.submit(job_id)
                await desk.failed(job_id)
        async with desk.worker():
            reply = await redrive(desk)
            for job in reply.jobs:
                await desk.done(str(job.new_job_id))

    assert [job.job_id for job in reply.jobs] == ["j1", "j2"]
    assert await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD) == []


async def test_a_rehearsal_keeps_the_letters(desk: Desk) -> None:
    """And the log."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", task=Task.REMOVAL)
        await desk.failed("j1")
        reply = await redrive(desk, dry_run=True)

    assert [(job.job_id, job.new_job_id) for job in reply.jobs] == [("j1", None)]
    assert len(await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD)) == 1
    assert await logged(desk) == 1


async def test_what_the_log_has_forgotten_is_told(desk: Desk) -> None:
    """Letters live longer than submits; the operator learns why nothing happens."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", task=Task.REMOVAL)
        await desk.failed("j1")
        await desk.bus.delete(JOB_LOG, 1)
        reply = await redrive(desk, job_id="j1")

    assert [job.problem for job in reply.jobs] == ["The log no longer holds its submission."]
    assert len(await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD)) == 1
