"""Compares the board with JOB_Q: events are missed while the connection is away, and JOB_Q may lose jobs."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from services.jobmanager.history.recall import Recall, RecentEvents, fail_lost_job, parse_all
from services.jobmanager.submissions import context_of_work, queue_subject
from shared import job_events, subjects, tracing
from shared.errors import StreamFull
from shared.messages import JobState, JobWork
from shared.reading import read_or_skip
from shared.topology import JOB_EV, JOB_Q

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.jobmanager.board import Board
    from shared.bus import Bus
    from shared.messages import JobClass, JobRecord

log = logging.getLogger(__name__)


class Reconciler:
    """Keeps the board of one class equal to the state in the broker."""

    def __init__(
        self,
        bus: Bus,
        board: Board,
        job_class: JobClass,
        lease_s: float,
        on_change: Callable[[], None],
        compare_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change` is called after each comparison, every `compare_s` seconds."""
        self._bus = bus
        self._board = board
        self._class = job_class
        self._on_change = on_change
        self._compare_s = compare_s
        self._lease = lease_s, clock
        self._events = RecentEvents(*self._lease)
        self._unlogged: set[str] = set()  # jobs that the last comparison found in neither JOB_Q nor the log
        self.recall = self._create_recall()

    async def start(self) -> None:
        """Compare once; `run` then also searches for lost jobs. Raises BrokerUnavailable."""
        self.recall = self._create_recall()
        self._events.keep(set())  # while the connection was lost, live workers could not publish either
        await self.compare()

    def _create_recall(self) -> Recall:
        return Recall(self._bus, self._board, self._class, RecentEvents(*self._lease))

    async def run(self) -> None:
        """Compare every few seconds until cancelled. Raises BrokerUnavailable."""
        while True:
            await asyncio.sleep(self._compare_s)
            # A job that the log still has to deliver is not lost.
            if not self._board.undelivered:
                await self.recall.run()
            await self.compare()
            self._on_change()

    async def compare(self) -> None:
        """Compare the board with JOB_Q once. Raises BrokerUnavailable, also if JOB_Q does not exist."""
        expected = self._board.expected_in_queue()  # before the listing: a job that is queued during it is not lost
        present = await self._queue_subjects()
        for job_id, subject in present.items():
            if not self._board.is_open(job_id):
                await self._adopt(job_id, subject)
            elif self._board.is_unstarted(job_id) and await self._has_started(job_id):
                self._board.start(job_id)
        absent = expected.keys() - present.keys()
        self._events.keep(absent)
        self._unlogged &= absent
        for job_id in absent:
            if self._board.is_open(job_id):
                await self._restore(expected[job_id])

    async def unstarted_in_queue(self) -> list[tuple[str, str]]:
        """Read owner and id of each job in JOB_Q that no worker has; JOB_Q also holds jobs that run."""
        addresses = [subjects.parse_queue_entry(subject) for subject in (await self._queue_subjects()).values()]
        return [(each.user, each.job_id) for each in addresses if not await self._has_started(each.job_id)]

    async def _queue_subjects(self) -> dict[str, str]:
        listed = await self._bus.subjects_in(JOB_Q, subjects.queue_entries_in_class(self._class))
        return {address.job_id: subject for subject, address in parse_all(subjects.parse_queue_entry, listed)}

    async def _has_started(self, job_id: str) -> bool:
        return await self._bus.last(JOB_EV, subjects.event(job_id, "started")) is not None

    async def _adopt(self, job_id: str, subject: str) -> None:
        """Add a job to the board that an earlier job manager or an operator put into JOB_Q."""
        stored = await self._bus.last(JOB_Q, subject)
        work = read_or_skip(JobWork, stored)  # if it is malformed, the worker that takes it writes the dead letter
        if work is None or stored is None or queue_subject(work) != subject:
            return
        has_started = await self._has_started(job_id)
        if await job_events.has_ended(self._bus, job_id):
            await self._bus.delete(JOB_Q, stored.seq)  # settled, but a full disk or a crash undid its removal
            return
        self._board.adopt(work, has_started=has_started)

    async def _restore(self, work: JobWork) -> None:
        """Queue a job again that left JOB_Q without an end: the stream was deleted or purged, or has lost it."""
        record = await job_events.load_record(self._bus, work.job_id)
        if record is None or record.ended is not None:  # an operator may have purged an owner
            self._board.remove(work.job_id)
        elif record.state is JobState.RUNNING and self._events.has_one(record):
            self._board.start(work.job_id)  # its worker sent an event within one lease, so it probably still runs
        elif await job_events.load_submission(self._bus, record) is None:
            await self._end_at_second_sight(record)
        elif self._board.requeue(work.job_id):
            await self._publish_again(work)

    async def _end_at_second_sight(self, record: JobRecord) -> None:
        """End a job without a submission at the second comparison: an operator may delete its record first."""
        if record.job_id in self._unlogged:
            await fail_lost_job(self._bus, record)
            self._board.remove(record.job_id)
        self._unlogged ^= {record.job_id}

    async def _publish_again(self, work: JobWork) -> None:
        try:
            with tracing.span("job.queue", parent=context_of_work(work)):
                await self._bus.publish(queue_subject(work), work.model_copy(update={"again": True}))
        except StreamFull:
            return  # the next comparison tries again
        log.warning("job.queued-again", extra={"job_id": work.job_id})
