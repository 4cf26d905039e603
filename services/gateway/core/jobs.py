"""The operations on jobs that /api and /v1 share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from cachetools import FIFOCache

from services.gateway.core.job_frames import JobFrames
from shared import subjects, tracing
from shared.errors import (
    BadMessage,
    BrokerUnavailable,
    Busy,
    Conflict,
    ImageNotFound,
    JobCancelled,
    JobDeleted,
    JobFailed,
    NotFound,
    Stopping,
    WrongLastSequence,
)
from shared.job_events import has_ended, load_record, load_submission, publish_end
from shared.jobs import fold
from shared.messages import Cancelled, Done, Failed, JobClass, JobSubmit
from shared.reading import read_or_skip
from shared.tombstones import is_deleted
from shared.topology import JOB_EV, JOB_LOG, JOBS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from services.gateway.access.ownership import Ownership
    from services.gateway.core.admission import Admission
    from services.gateway.core.feed import Feed
    from services.gateway.core.stores import Stores
    from services.gateway.core.submission_budget import SubmissionBudget
    from shared.bus import Bus, StoredMessage
    from shared.messages import JobEvent, JobRecord

T = TypeVar("T")
log = logging.getLogger(__name__)
_ENDED_JOBS = 256
_RETRY_S = 0.25  # nothing announces the streams of a broker that has just started


class EndedJobs:
    """A cache of the states of ended jobs, which cannot change."""

    def __init__(self) -> None:
        self._records: FIFOCache[str, JobRecord] = FIFOCache(_ENDED_JOBS)

    def get(self, job_id: str) -> JobRecord | None:
        """Return the job's final state if it is in the cache."""
        return self._records.get(job_id)

    def keep(self, record: JobRecord) -> None:
        """Add the state if it is final."""
        if record.ended is not None:
            self._records.setdefault(record.job_id, record)


class Jobs:
    """Submit, find, follow and cancel jobs on behalf of their owner."""

    def __init__(
        self,
        bus: Bus,
        ownership: Ownership,
        stores: Stores,
        admission: Admission,
        feed: Feed,
        result_wait_s: float,
        budget: SubmissionBudget | None = None,
    ) -> None:
        """`result_wait_s` limits each wait, for a job that still runs or for a broker that is away.

        Without `budget`, submissions are not limited.
        """
        self._bus = bus
        self._ownership = ownership
        self._stores = stores
        self._admission = admission
        self._feed = feed
        self._result_wait_s = result_wait_s
        self._budget = budget
        self._ended = EndedJobs()

    def check_queue_limit(self, owner: str) -> None:
        """Raise Busy if the owner may not submit another job now."""
        self._admission.check(owner)

    async def submit(
        self,
        owner: str,
        submission: JobSubmit,
        job_class: JobClass = JobClass.INTERACTIVE,
        job_id: str | None = None,
    ) -> str:
        """Store the submission in the broker's log and return the job's id.

        Raises Busy, also if there is no room for a result, ImageNotFound for an image that was just deleted, and
        BrokerUnavailable.
        """
        job_id = job_id or str(uuid4())
        submission = submission.model_copy(update={"traceparent": tracing.current_traceparent()})
        body = submission.model_dump_json(exclude_none=True).encode()
        with self._admission.place(owner, job_id):
            await self._stores.make_room_for_result(owner, submission)
            if self._budget is not None:
                self._budget.spend(owner, len(body))
            await self._store(subjects.submission(job_class, owner, job_id), body, owner, job_id, submission)
        self._ownership.add_job(owner, job_id)
        log.info("job.submitted", extra={"job_id": job_id, "task": submission.task})
        return job_id

    async def _store(self, subject: str, body: bytes, owner: str, job_id: str, submission: JobSubmit) -> None:
        """Store the submission and keep its inputs at the same time; cancel the job at once if one is missing."""
        stored, kept = await asyncio.gather(
            self._bus.publish(subject, body, msg_id=job_id, verify_in=JOB_LOG),
            self._stores.keep_inputs(owner, job_id, submission),
            return_exceptions=True,
        )
        if isinstance(stored, Busy):
            await self._stores.release_job(owner, job_id)
        for failed in (stored, kept):
            if isinstance(failed, BaseException):
                raise failed
        if not kept:
            end = Cancelled(job_id=job_id)
            with contextlib.suppress(WrongLastSequence):
                await self._bus.publish_first(JOB_EV, subjects.end(job_id), end, msg_id=uuid4().hex)
            raise ImageNotFound("An image of this job was deleted; upload it again.")

    async def find_log_entry(self, job_id: str) -> StoredMessage | None:
        """Return the log entry of the job's submission, None if there is none. Raises BrokerUnavailable."""
        return await self._bus.first(JOB_LOG, subjects.submissions_of(job_id))

    async def is_known(self, owner: str, job_id: str) -> bool:
        """Return whether the job has a record or events, with or without a log entry. Raises BrokerUnavailable."""
        record, event = await asyncio.gather(
            self._bus.last(JOBS, subjects.job_record(owner, job_id)),
            self._bus.first(JOB_EV, subjects.events_of(job_id)),
        )
        return record is not None or event is not None

    async def is_deleted(self, owner: str, job_id: str) -> bool:
        """Return whether the owner has deleted this job. Raises BrokerUnavailable."""
        return await is_deleted(self._bus, owner, job_id)

    async def submission_of(self, record: JobRecord) -> JobSubmit | None:
        """Return the job's submission, None if it has expired in the log. Raises BrokerUnavailable."""
        return read_or_skip(JobSubmit, await load_submission(self._bus, record))

    async def find(self, owner: str, job_id: str, *, even_deleted: bool = False) -> JobRecord:
        """Return the state of the owner's job.

        Raises NotFound (also for a job of another owner), JobDeleted unless `even_deleted`, BrokerUnavailable.
        """
        try:
            deleted, record = await asyncio.gather(
                is_deleted(self._bus, owner, job_id), self._ownership.owned_job(owner, job_id, self._load)
            )
        except BadMessage:
            deleted, record = False, None
        if deleted and not even_deleted:
            raise JobDeleted("You have deleted this job.")
        if record is None:
            raise NotFound("This job is unknown or has expired.")
        self._ended.keep(record)
        return record

    async def _load(self, job_id: str) -> JobRecord | None:
        return self._ended.get(job_id) or await load_record(self._bus, job_id)

    async def cancel(self, owner: str, job_id: str) -> bool:
        """Cancel the job, queued or running; return False if it had ended. Raises NotFound, BrokerUnavailable."""
        record = await self.find(owner, job_id)
        if record.ended is not None:
            return False
        end = Cancelled(job_id=job_id, step=record.step, total_steps=record.total_steps)
        try:
            await publish_end(self._bus, end, msg_id=uuid4().hex)
        except WrongLastSequence:
            return False
        log.info("job.cancelled", extra={"job_id": job_id})
        return True

    def follow(self, job_id: str, after: int) -> AsyncGenerator[tuple[int, JobEvent], None]:
        """Yield the job's events after a sequence number, see Feed.follow."""
        return self._feed.follow(job_id, after)

    def open_frames(
        self, job_id: str, after: int, frame: Callable[[int, JobEvent], bytes], heartbeat_s: float
    ) -> JobFrames:
        """Return the frames of the job's events after a sequence number; close them."""
        return JobFrames(self._feed.open(job_id, after, heartbeat_s), frame)

    async def is_end_stored(self, job_id: str) -> bool:
        """Return whether the job's terminal event is still in its stream. Raises BrokerUnavailable."""
        return await has_ended(self._bus, job_id)

    async def with_broker(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`; repeat it while the broker is away, for example at the start.

        Raises BrokerUnavailable after `result_wait_s` seconds, Stopping, and the errors of `work`.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + self._result_wait_s
        while True:
            try:
                return await work()
            except BrokerUnavailable:
                if self._feed.is_closed:
                    raise Stopping from None
                if now() >= deadline:
                    raise
            await asyncio.sleep(_RETRY_S)

    async def wait_ended(self, owner: str, job_id: str, timeout_s: float) -> JobRecord:
        """Return the job's state after its end, or after the timeout. Raises as `find`, and Stopping."""
        record = await self.find(owner, job_id)
        if record.ended is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s), aclosing(self.follow(job_id, record.last_seq)) as events:
                    async for seq, event in events:
                        record = fold(record, event, seq)
                    if record.ended is None:
                        raise Stopping
        return record

    async def result(self, owner: str, job_id: str, use: Callable[[JobRecord, Done], Awaitable[T]]) -> T:
        """Wait for the broker and for the job's result, at most `result_wait_s` seconds; return the result of `use`.

        Raises JobFailed, JobCancelled, Conflict if the job still runs, and as `wait_ended`.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + self._result_wait_s

        async def wait_and_use() -> T:
            record = await self.wait_ended(owner, job_id, max(0.0, deadline - now()))
            return await use(record, done_of(record))

        return await self.with_broker(wait_and_use)


def done_of(record: JobRecord) -> Done:
    """Return the terminal event of a successful job. Raises JobFailed, JobCancelled, Conflict if it still runs."""
    match record.ended:
        case Done() as done:
            return done
        case Failed() as failed:
            raise JobFailed(failed.message)
        case Cancelled():
            raise JobCancelled
        case None:
            raise Conflict("The job is still running.")


def require_ended(record: JobRecord) -> None:
    """Raise Conflict if the job still waits or runs."""
    if record.ended is None:
        raise Conflict("The job is still running.")
