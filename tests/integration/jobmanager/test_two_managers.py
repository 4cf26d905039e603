"""Two job managers at once, as in an update: each projects a part of the events, and the view is whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared import jobs, subjects
from shared.messages import JobRecord
from shared.reading import read_or_skip
from shared.topology import JOB_EV, JOBS
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.running import Desk

JOBS_AT_ONCE = 40


async def test_the_view_has_the_end_of_every_job(desk: Desk) -> None:
    """Each event goes to one of the projectors. None of them robs the other of events that it has not settled."""

    async def records() -> list[JobRecord]:
        found = [read_or_skip(JobRecord, each) for each in await desk.bus.history(JOBS, subjects.ALL_RECORDS)]
        return [record for record in found if record is not None and record.ended is not None]

    async def is_whole() -> bool:
        return len(await records()) == JOBS_AT_ONCE

    async with desk.manager(), desk.manager(), desk.worker("tests.fakes:HastyEngine"):
        await asyncio.gather(*(desk.submit(f"j{number}", user="u1") for number in range(JOBS_AT_ONCE)))
        await wait_until(is_whole, "the view has the end of every job")
        viewed = {record.job_id: record for record in await records()}
    for job_id, record in viewed.items():
        folded = None
        for stored in await desk.bus.history(JOB_EV, subjects.events_of(job_id)):
            event = jobs.parse_event(stored)
            folded = folded if event is None else jobs.fold(folded, event, stored.seq)

        assert folded is not None
        assert (record.worker, record.attempt, record.ended) == (folded.worker, folded.attempt, folded.ended)
