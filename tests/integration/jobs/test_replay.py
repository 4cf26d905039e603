"""Replays of a range of the log and of dead letters: always new jobs. A dry run changes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared import rpc, subjects
from shared.errors import BadInput
from shared.messages import JobClass, Queued, RedriveRequest, ReplayReply, ReplayRequest, Task
from shared.topology import JOB_DLQ, JOB_LOG
from tests.waiting import TIMEOUT_S

if TYPE_CHECKING:
    from tests.running import Desk


async def replay(desk: Desk, **fields: object) -> ReplayReply:
    request = ReplayRequest.model_validate(fields)
    return await rpc.call(desk.bus, subjects.JOB_REPLAY, request, ReplayReply, timeout_s=TIMEOUT_S)


async def redrive(desk: Desk, **fields: object) -> ReplayReply:
    request = RedriveRequest.model_validate(fields)
    return await rpc.call(desk.bus, subjects.JOB_REDRIVE, request, ReplayReply, timeout_s=TIMEOUT_S)


async def count_logged(desk: Desk) -> int:
    return int((await desk.bus.client.jetstream().stream_info(JOB_LOG)).state.messages)


async def test_a_range_of_the_log_runs_again(desk: Desk) -> None:
    """The jobs run in the order of the log, each with a new id and the same result."""
    async with desk.manager(), desk.worker():
        for number in (1, 2, 3):
            await desk.submit(f"j{number}", seed=number)
        first = [await desk.done(f"j{number}") for number in (1, 2, 3)]
        reply = await replay(desk, from_seq=2, to_seq=3)
        again = [await desk.done(str(job.new_job_id)) for job in reply.jobs]

    assert [(job.log_seq, job.job_id) for job in reply.jobs] == [(2, "j2"), (3, "j3")]
    assert [end.result for end in again] == [end.result for end in first[1:]]


async def test_one_sequence_is_a_range_too(desk: Desk) -> None:
    """Without `to_seq` the range is one job."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.submit("j2")
        reply = await replay(desk, from_seq=1)

        assert [job.job_id for job in reply.jobs] == ["j1"]
        await desk.done(str(reply.jobs[0].new_job_id))


async def test_a_dry_run_changes_nothing(desk: Desk) -> None:
    """It only lists the jobs that would run."""
    async with desk.manager():
        await desk.submit("j1")
        reply = await replay(desk, from_seq=1, to_seq=5, dry_run=True)

    assert [(job.job_id, job.new_job_id) for job in reply.jobs] == [("j1", None)]
    assert await count_logged(desk) == 1


async def test_a_replay_can_have_another_class(desk: Desk) -> None:
    """A thousand replayed jobs need not delay interactive ones."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", job_class="interactive")
        reply = await replay(desk, from_seq=1, job_class="batch")
        new_id = str(reply.jobs[0].new_job_id)
        await desk.done(new_id)
    queued = (await desk.events(new_id))[0]

    assert isinstance(queued, Queued)
    assert queued.job_class is JobClass.BATCH


@pytest.mark.parametrize(("from_seq", "to_seq"), [(5, 4), (1, 1001)], ids=["empty", "too long"])
async def test_an_invalid_range_is_refused(desk: Desk, from_seq: int, to_seq: int) -> None:
    """The reply must fit into one message."""
    async with desk.manager():
        with pytest.raises(BadInput, match="The range must hold 1 to 1000 submissions"):
            await replay(desk, from_seq=from_seq, to_seq=to_seq)


@pytest.mark.parametrize("strange", ["ops.j1", "ops.j:1"], ids=["body", "address"])
async def test_an_unreadable_submission_is_not_replayed(desk: Desk, strange: str) -> None:
    """It would fail again; the other jobs of the range are replayed."""
    await desk.bus.publish(f"job.submit.a100.interactive.{strange}", b"{")
    await desk.submit("j2")
    async with desk.manager():
        reply = await replay(desk, from_seq=1, to_seq=2)

    assert [bool(job.problem) for job in reply.jobs] == [True, False]
    assert await count_logged(desk) == 3


async def test_all_dead_letters_are_replayed(desk: Desk) -> None:
    """The letters are removed; a job that fails again writes a new one."""
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


async def test_two_redrives_at_once_run_a_letter_once(desk: Desk) -> None:
    """Both replies name the same new job."""
    async with desk.manager():
        async with desk.worker("tests.fakes:FailingEngine"):
            await desk.submit("j1")
            await desk.failed("j1")
        first, second = await asyncio.gather(redrive(desk), redrive(desk))

    assert [job.new_job_id for job in first.jobs] == [job.new_job_id for job in second.jobs]
    assert await count_logged(desk) == 2


async def test_a_dry_run_keeps_the_letters(desk: Desk) -> None:
    """It does not log anything either."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", task=Task.REMOVAL)
        await desk.failed("j1")
        reply = await redrive(desk, dry_run=True)

    assert [(job.job_id, job.new_job_id) for job in reply.jobs] == [("j1", None)]
    assert len(await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD)) == 1
    assert await count_logged(desk) == 1


async def test_a_letter_without_a_submission_is_reported(desk: Desk) -> None:
    """Letters live longer than submissions, and the reply names the reason."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", task=Task.REMOVAL)
        await desk.failed("j1")
        await desk.bus.delete(JOB_LOG, 1)
        reply = await redrive(desk, job_id="j1")

    assert [job.problem for job in reply.jobs] == ["The log no longer holds its submission."]
    assert len(await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD)) == 1
