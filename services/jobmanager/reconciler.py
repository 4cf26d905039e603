"""Compares the board with JOB_Q: events are missed while the connection is away, and JOB_Q may lose jobs."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, TypeVar

from services.jobmanager.submissions import context_of_work, queue_subject
from shared import job_events, subjects, tracing
from shared.errors import BadMessage, StreamFull
from shared.jobs import parse_event
from shared.messages import JobState, JobSubmit, JobWork, Queued
from shared.reading import log_malformed, read_or_skip
from shared.topology import JOB_EV, JOB_LOG, JOB_Q

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from services.jobmanager.board import Board
    from shared.bus import Bus
    from shared.messages import JobClass, JobRecord

T = TypeVar("T")
COMPARE_EVERY_S = 5.0
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change` is called after each comparison."""
        self._bus = bus
        self._board = board
        self._class = job_class
        self._lease_s = lease_s
        self._on_change = on_change
        self._clock = clock
        self._last_events: dict[str, tuple[int, float]] = {}
        self._has_recalled = False

    async def start(self) -> None:
        """Compare once; `run` then also searches for lost jobs. Raises BrokerUnavailable."""
        self._has_recalled = False
        self._last_events.clear()  # while the connection was lost, a living worker could not publish either
        await self.compare()

    async def run(self) -> None:
        """Compare every few seconds until cancelled. Raises BrokerUnavailable."""
        while True:
            await asyncio.sleep(COMPARE_EVERY_S)
            # A job that the log still has to deliver is not lost.
            if not self._has_recalled and not self._board.undelivered:
                await self._recall()
                self._has_recalled = True
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
        self._last_events = {job_id: seen for job_id, seen in self._last_events.items() if job_id in absent}
        for job_id in absent:
            if self._board.is_open(job_id):
                await self._restore(expected[job_id])

    async def unstarted_in_queue(self) -> list[tuple[str, str]]:
        """Read owner and id of each job in JOB_Q that no worker has; JOB_Q also holds jobs that run."""
        addresses = [subjects.parse_queue_entry(subject) for subject in (await self._queue_subjects()).values()]
        return [(each.user, each.job_id) for each in addresses if not await self._has_started(each.job_id)]

    async def _queue_subjects(self) -> dict[str, str]:
        listed = await self._bus.subjects_in(JOB_Q, subjects.queue_entries_in_class(self._class))
        return {address.job_id: subject for subject, address in _parse_all(subjects.parse_queue_entry, listed)}

    async def _has_started(self, job_id: str) -> bool:
        return await self._bus.last(JOB_EV, subjects.event(job_id, "started")) is not None

    async def _adopt(self, job_id: str, subject: str) -> None:
        """Add a job to the board that an earlier job manager or an operator put into JOB_Q."""
        stored = await self._bus.last(JOB_Q, subject)
        work = read_or_skip(JobWork, stored)  # if it is malformed, the worker that takes it writes the dead letter
        if work is None or stored is None or queue_subject(work) != subject:
            return
        has_started = await self._has_started(job_id)
        if await self._bus.last(JOB_EV, subjects.end(job_id)) is not None:
            await self._bus.delete(JOB_Q, stored.seq)  # settled, but a full disk or a crash undid its removal
            return
        self._board.adopt(work, has_started=has_started)

    async def _restore(self, work: JobWork) -> None:
        """Queue a job again that left JOB_Q without an end: the stream was deleted or purged, or has lost it."""
        record = await job_events.load_record(self._bus, work.job_id)
        is_logged = await self._bus.get(JOB_LOG, work.log_seq) is not None  # an operator may have purged an owner
        if record is None or record.ended is not None or not is_logged:
            self._board.remove(work.job_id)
        elif record.state is JobState.RUNNING and self._has_recent_event(record):
            self._board.start(work.job_id)  # its worker sent an event within one lease, so it probably still runs
        elif self._board.requeue(work.job_id):
            await self._publish_again(work)

    def _has_recent_event(self, record: JobRecord) -> bool:
        """Return whether an event of the job arrived within a lease.

        The times in events are by the clocks of other hosts. So an event counts from the comparison that first finds
        it.
        """
        now = self._clock()
        seq, found_at = self._last_events.get(record.job_id, (-1, now))
        if seq != record.last_seq:
            found_at = now
        self._last_events[record.job_id] = record.last_seq, found_at
        return now - found_at < self._lease_s

    async def _publish_again(self, work: JobWork) -> None:
        try:
            with tracing.span("job.queue", parent=context_of_work(work)):
                await self._bus.publish(queue_subject(work), work.model_copy(update={"again": True}))
        except StreamFull:
            return  # the next comparison tries again
        log.warning("job.queued-again", extra={"job_id": work.job_id})

    async def _recall(self) -> None:
        """Add the jobs that JOB_Q lost while no job manager ran. Only their events still show that they are open."""
        queued = await self._bus.subjects_in(JOB_EV, subjects.EVERY_QUEUED_EVENT)
        ended = await self._bus.subjects_in(JOB_EV, subjects.EVERY_END)  # second, so that it covers the first listing
        open_ids = {job_id for _, job_id in _parse_all(subjects.job_of_event, queued)} - {
            job_id for _, job_id in _parse_all(subjects.job_of_event, ended)
        }
        for job_id in sorted(open_ids):
            # Two reads a job would delay the comparisons by seconds while thousands of jobs wait.
            if job_id not in self._board and (work := await self._rebuild(job_id)) is not None:
                self._board.recall(work)

    async def _rebuild(self, job_id: str) -> JobWork | None:
        """Rebuild the JOB_Q entry of a job. None if the job is of another class, or no longer in the log."""
        stored = await self._bus.last(JOB_EV, subjects.event(job_id, "queued"))
        event = None if stored is None else parse_event(stored)
        if not isinstance(event, Queued) or event.job_class is not self._class:
            return None
        logged = await self._bus.get(JOB_LOG, event.log_seq)
        submit = read_or_skip(JobSubmit, logged)
        if submit is None:
            return None
        return JobWork(
            job_id=job_id,
            user=event.user,
            job_class=self._class,
            log_seq=event.log_seq,
            replay_of=event.replay_of,
            submit=submit,
        )


def _parse_all(parse: Callable[[str], T], listed: Iterable[str]) -> Iterator[tuple[str, T]]:
    """Yield each subject with its parsed form; skip the malformed ones."""
    for subject in listed:
        try:
            yield subject, parse(subject)
        except BadMessage as error:
            log_malformed(subject, 0, error.message)
