"""Finds open jobs by their events or records, because JOB_Q or the log has lost them.

Without a submission a job cannot run. It ends as failed, so that no client waits for it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from shared import job_events, subjects
from shared.errors import BadMessage, SubmissionLost
from shared.jobs import parse_event
from shared.messages import JobClass, JobRecord, JobState, JobSubmit, JobWork, Queued
from shared.reading import log_malformed, read_or_skip
from shared.topology import JOB_EV, JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from services.jobmanager.board import Board
    from shared.bus import Bus, StoredMessage

T = TypeVar("T")
_OPEN = tuple(f'"state":"{state}"'.encode() for state in (JobState.QUEUED, JobState.RUNNING))
log = logging.getLogger(__name__)


class RecentEvents:
    """Remembers when each job last had a new event, to find the jobs that probably still run.

    The times in events are by the clocks of other hosts. So the age of an event counts from the read that first finds
    it.
    """

    def __init__(self, lease_s: float, clock: Callable[[], float]) -> None:
        """Treat a job as lost if its worker sent no event for `lease_s`."""
        self._lease_s = lease_s
        self._clock = clock
        self._last: dict[str, tuple[int, float]] = {}

    def has_one(self, record: JobRecord) -> bool:
        """Return whether an event of the job arrived within a lease."""
        now = self._clock()
        seq, found_at = self._last.get(record.job_id, (-1, now))
        if seq != record.last_seq:
            found_at = now
        self._last[record.job_id] = record.last_seq, found_at
        return now - found_at < self._lease_s

    def keep(self, job_ids: AbstractSet[str]) -> None:
        """Forget all other jobs."""
        self._last = {job_id: seen for job_id, seen in self._last.items() if job_id in job_ids}


class Recall:
    """Searches for the lost jobs of one class. Only for a board that has all unsettled submissions of the log."""

    def __init__(self, bus: Bus, board: Board, job_class: JobClass, events: RecentEvents) -> None:
        self._bus = bus
        self._board = board
        self._class = job_class
        self._events = events
        self._due = True
        self._watched: set[str] = set()  # without a submission, but perhaps still at a worker

    def search_again(self) -> None:
        """Make the next `run` search all events and records."""
        self._due = True

    async def run(self) -> None:
        """Add the lost jobs to the board, and end those without a submission. Raises BrokerUnavailable."""
        if self._due:
            self._due = False  # before the search: `search_again` may be called during it
            self._watched |= await self._open_by_events() | await self._open_by_records()
        for job_id in sorted(self._watched):
            # Reads for each job would delay the comparisons by seconds while thousands of jobs wait.
            if job_id in self._board or await self._recall(job_id):
                self._watched.discard(job_id)
        self._events.keep(self._watched)

    async def _open_by_events(self) -> set[str]:
        queued = await self._bus.subjects_in(JOB_EV, subjects.EVERY_QUEUED_EVENT)
        ended = await self._bus.subjects_in(JOB_EV, subjects.EVERY_END)  # second, so that it covers the first listing
        return {job_id for _, job_id in parse_all(subjects.job_of_event, queued)} - {
            job_id for _, job_id in parse_all(subjects.job_of_event, ended)
        }

    async def _open_by_records(self) -> set[str]:
        """Return the jobs without a final record. Events expire after a day, and JOB_EV may be lost."""
        found = set()
        async for page in self._bus.pages(JOBS, subjects.ALL_RECORDS):
            found |= {job_id for stored in page if (job_id := self._open_job(stored)) is not None}
        return found

    def _open_job(self, stored: StoredMessage) -> str | None:
        if not any(state in stored.data for state in _OPEN):  # most have ended, and to parse one takes 10 microseconds
            return None
        record = read_or_skip(JobRecord, stored)
        return record.job_id if record is not None and record.ended is None and self._is_mine(record) else None

    def _is_mine(self, record: JobRecord) -> bool:
        return (record.job_class or JobClass.INTERACTIVE) is self._class

    async def _recall(self, job_id: str) -> bool:
        """Recall or end one job. Return False if it must be checked again."""
        stored = await self._bus.last(JOB_EV, subjects.event(job_id, "queued"))
        queued = None if stored is None else parse_event(stored)
        if isinstance(queued, Queued) and queued.job_class is not self._class:  # one read for each job of the others
            return True
        record = await job_events.load_record(self._bus, job_id)
        if record is None or record.ended is not None or not self._is_mine(record):
            return True
        logged = await job_events.load_submission(self._bus, record)
        if logged is None:
            return await self._end_unless_running(record)
        submission = read_or_skip(JobSubmit, logged)
        if submission is not None:
            work = JobWork(
                job_id=job_id,
                user=record.user,
                job_class=self._class,
                log_seq=logged.seq,
                replay_of=record.replay_of,
                submit=submission,
            )
            self._board.recall(work)
        return True

    async def _end_unless_running(self, record: JobRecord) -> bool:
        if record.state is JobState.RUNNING and self._events.has_one(record):
            return False
        if record.job_id not in self._board:  # the board may have received it during the reads
            await fail_lost_job(self._bus, record)
        return True


async def fail_lost_job(bus: Bus, record: JobRecord) -> None:
    """End a job without a stored submission. Raises BrokerUnavailable."""
    error = SubmissionLost()
    await job_events.dead_letter_job(bus, record.job_id, error, attempts=record.attempt, log_seq=record.log_seq)


def parse_all(parse: Callable[[str], T], listed: Iterable[str]) -> Iterator[tuple[str, T]]:
    """Yield each subject with its parsed form; skip the malformed ones."""
    for subject in listed:
        try:
            yield subject, parse(subject)
        except BadMessage as error:
            log_malformed(subject, 0, error.message)
