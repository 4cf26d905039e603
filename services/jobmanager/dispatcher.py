"""From the log of submitted jobs to the queue that workers pull from.

The order of a queue cannot be changed, so the queue is kept short: jobs wait in a queue here, unsettled in the log.
Each step may be repeated: after a crash the log delivers again what was not settled, and the broker refuses doubles.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from services.jobmanager import open_jobs
from services.jobmanager.durations import UNKNOWN_MS
from services.jobmanager.fair_queue import FairQueue
from services.jobmanager.submissions import SubmissionExaminer, WaitingJob
from shared import deliveries, job_events, subjects, tracing
from shared.errors import BrokerUnavailable, StreamFull, WrongLastSequence
from shared.messages import JobState, JobWork, Queued
from shared.topology import DISPATCHERS, JOB_EV, JOB_LOG, JOB_Q

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from services.jobmanager.durations import DurationEstimator
    from services.jobmanager.settings import Settings
    from shared.bus import Bus, StoredMessage
    from shared.image_store import ImageStore
    from shared.messages import JobClass

_QUANTUM_MS = 1_000.0  # a user's turn: so long may others have to wait for it
_TOLD = 20  # so many at the head of the line hear of their place as it changes
_BETWEEN_TELLINGS_S = 1.0
_AUDIT_S = 5.0  # events are missed while the connection is away; the queue itself tells the truth
log = logging.getLogger(__name__)


class Dispatcher:
    """Dispatches one class of jobs, fairly between users; of those in JOB_Q only few are unstarted: one a worker."""

    def __init__(
        self, bus: Bus, images: ImageStore, job_class: JobClass, estimator: DurationEstimator, settings: Settings
    ) -> None:
        self._bus = bus
        self._examiner = SubmissionExaminer(bus, images, job_class, estimator)
        self._class = job_class
        self._estimator = estimator
        self._lookahead = settings.lookahead
        self._lease_s = settings.streams.lease_s
        self._queue: FairQueue[WaitingJob] = FairQueue(_QUANTUM_MS)
        self._unstarted: set[str] = set()  # in JOB_Q
        self._unended: dict[str, JobWork] = {}  # put into JOB_Q; kept over a restart, because JOB_Q may be lost
        self._cancelled: list[WaitingJob] = []
        self._moved = asyncio.Event()
        self._line_changed = asyncio.Event()
        self._feeding = asyncio.Lock()
        self._undelivered = 0  # submits that wait in the log
        self._is_whole = False  # what is open by the events is known

    async def run(self) -> None:
        """Dispatch until the connection was away. Raises BrokerUnavailable."""
        connect = self._bus.connects
        self._queue = FairQueue(_QUANTUM_MS)
        self._undelivered, self._is_whole = 0, False
        await self._audit()
        await deliveries.redeliver_unsettled(self._bus, JOB_LOG, DISPATCHERS[self._class])
        async with (
            self._bus.subscribe(subjects.LIVE_STARTS, self._hear),
            self._bus.subscribe(subjects.LIVE_ENDS, self._hear),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._admit_all(), name=f"dispatch.admit-{self._class}")
            group.create_task(self._feed_when_moved(), name=f"dispatch.feed-{self._class}")
            group.create_task(self._audit_often(), name=f"dispatch.audit-{self._class}")
            group.create_task(self._tell_places(), name=f"dispatch.tell-{self._class}")
            group.create_task(self._end_when_reconnected(connect), name=f"dispatch.reconnect-{self._class}")

    async def _end_when_reconnected(self, connect: int) -> None:
        """Begin anew: what was acknowledged while the broker died is unsettled, and would come back in a day's time."""
        await self._bus.next_connect(connect)
        raise BrokerUnavailable

    async def _admit_all(self) -> None:
        async for arrived in deliveries.consume(self._bus, JOB_LOG, DISPATCHERS[self._class]):
            async with asyncio.TaskGroup() as group:
                examined = [
                    group.create_task(self._examiner.examine(delivery), name=f"dispatch.examine-{delivery.seq}")
                    for delivery in arrived
                ]
            self._undelivered = arrived[-1].pending
            await self._line_up([waiting for task in examined if (waiting := task.result()) is not None])
            await self._feed()

    async def _line_up(self, jobs_in_order: list[WaitingJob]) -> None:
        # With the lock, or a job might be queued and started before its first event is stored.
        async with self._feeding, asyncio.TaskGroup() as group:
            for waiting in jobs_in_order:
                work = waiting.work
                ahead = len(self._unstarted) + self._queue.ahead_of_new(work.user)
                self._queue.add(work.user, work.job_id, waiting.expected_ms or UNKNOWN_MS, waiting)
                group.create_task(self._welcome(waiting, ahead), name=f"dispatch.welcome-{work.log_seq}")
        self._line_changed.set()

    async def _welcome(self, waiting: WaitingJob, ahead: int) -> None:
        try:
            await self._announce(waiting, ahead, msg_id=f"{waiting.work.job_id}.queued")
        except WrongLastSequence:  # cancelled before it was queued, or settled before a crash
            if self._queue.remove(waiting.work.job_id) is not None:
                await waiting.delivery.ack_nowait()

    async def _feed_when_moved(self) -> None:
        while True:
            self._moved.clear()
            await self._feed()
            await self._moved.wait()

    async def _audit_often(self) -> None:
        while True:
            await asyncio.sleep(_AUDIT_S)
            if not self._is_whole and not self._undelivered:  # what is still to be delivered is not lost
                await self._recall()
            await self._audit()
            self._moved.set()

    async def _audit(self) -> None:
        """Compare what is known with JOB_Q. Raises BrokerUnavailable, also when that stream is gone."""
        async with self._feeding:
            listed = await self._bus.subjects_in(JOB_Q, subjects.queue_entries_in_class(self._class))
            present = {subjects.parse_queue_entry(subject).job_id: subject for subject in listed}
            for job_id in present.keys() - self._unended.keys():
                await self._adopt(present[job_id])
            for work in [work for job_id, work in self._unended.items() if job_id not in present]:
                await self._restore(work)
            self._unstarted &= set(await self._unstarted_in_queue())

    async def _recall(self) -> None:
        """Know also the jobs that JOB_Q lost while no manager was there to see it."""
        for work in await open_jobs.find(self._bus, self._class):
            if work.job_id not in self._queue:
                self._unended.setdefault(work.job_id, work)
        self._is_whole = True

    async def _adopt(self, subject: str) -> None:
        """Know a job that somebody else put into JOB_Q: a manager before this one, or an operator."""
        stored = await self._bus.last(JOB_Q, subject)
        try:
            work = None if stored is None else JobWork.model_validate_json(stored.data)
        except ValidationError:
            return  # its worker will say what is wrong with it
        if work is None or stored is None or _subject(work) != subject:
            return
        if await self._bus.last(JOB_EV, subjects.end(work.job_id)) is not None:
            await self._bus.delete(JOB_Q, stored.seq)  # settled, but a full disk or a crash undid its removal
            return
        self._unended[work.job_id] = work
        self._unstarted.add(work.job_id)

    async def _restore(self, work: JobWork) -> None:
        """Queue a job again that has left JOB_Q without an end: the stream was deleted or purged, or has lost it."""
        record = await job_events.load_record(self._bus, work.job_id)
        forgotten = await self._bus.get(JOB_LOG, work.log_seq) is None  # as an operator does who forgets a user
        if record is None or record.ended is not None or forgotten:
            self._unended.pop(work.job_id, None)
            return
        if record.state is JobState.RUNNING and time.time() - record.updated_at < self._lease_s:
            return  # its worker has been heard of, and may well end it
        with contextlib.suppress(StreamFull):  # then the next audit tries again
            with tracing.span("job.queue", parent=_context(work)):
                await self._bus.publish(_subject(work), work.model_copy(update={"again": True}))
            self._unstarted.add(work.job_id)
            log.warning("job.queued-again", extra={"job_id": work.job_id})

    async def _feed(self) -> None:
        async with self._feeding, asyncio.TaskGroup() as group:
            while self._cancelled:
                await self._cancelled.pop().delivery.ack_nowait()
                self._line_changed.set()
            room = max(
                self._lookahead, self._estimator.worker_count()
            )  # one for each worker to take, and the rest stays fair
            while len(self._unstarted) < room and (waiting := self._queue.pop()) is not None:
                # First, because a worker may start it before the broker's answer is here.
                self._unended[waiting.work.job_id] = waiting.work
                self._unstarted.add(waiting.work.job_id)
                group.create_task(self._put_into_queue(waiting), name=f"dispatch.queue-{waiting.work.log_seq}")
                self._line_changed.set()

    async def _put_into_queue(self, waiting: WaitingJob) -> None:
        work = waiting.work
        try:
            with tracing.span("job.queue", parent=_context(work)):
                await self._bus.publish(_subject(work), work, msg_id=f"{work.job_id}.{work.log_seq}")
        except StreamFull:
            # Refused for one of two reasons that share a code: this very job is queued already, or the queue is full.
            if await self._bus.last(JOB_Q, _subject(work)) is None:
                self._unstarted.discard(work.job_id)
                self._unended.pop(work.job_id, None)
                await waiting.delivery.retry(_AUDIT_S)
                return
        await waiting.delivery.ack_nowait()
        log.info("job.queued", extra={"job_id": work.job_id, "task": work.submit.task, "class": work.job_class})

    def unstarted(self) -> list[JobWork]:
        """Return the jobs that no worker has, as far as is known without asking the broker."""
        queued = [work for job_id, work in self._unended.items() if job_id in self._unstarted]
        return queued + [waiting.work for waiting in self._queue.in_turn(len(self._queue))]

    def oldest_wait_s(self) -> float:
        """How long the oldest of them has waited."""
        oldest = min((work.submit.submitted_at for work in self.unstarted()), default=time.time())
        return max(0.0, time.time() - oldest)

    def running(self) -> int:
        """How many jobs a worker has."""
        return len(self._unended.keys() - self._unstarted)

    async def waiting(self) -> list[tuple[str, str]]:
        """User and id of each job that no worker has. Raises BrokerUnavailable."""
        queued = [(user, job_id) for job_id, user in (await self._unstarted_in_queue()).items()]
        return queued + [(waiting.work.user, waiting.work.job_id) for waiting in self._queue.in_turn(len(self._queue))]

    async def _unstarted_in_queue(self) -> dict[str, str]:
        """Read jobs and their users from JOB_Q, which keeps also those that run until they are settled."""
        found = await self._bus.subjects_in(JOB_Q, subjects.queue_entries_in_class(self._class))
        addresses = [subjects.parse_queue_entry(subject) for subject in found]
        started = [await self._bus.last(JOB_EV, subjects.event(each.job_id, "started")) for each in addresses]
        return {each.job_id: each.user for each, event in zip(addresses, started, strict=True) if event is None}

    def _hear(self, stored: StoredMessage) -> None:
        job_id = subjects.job_of_event(stored.subject)
        self._unstarted.discard(job_id)
        if subjects.kind_of_event(stored.subject) == subjects.TERMINAL:
            self._unended.pop(job_id, None)
        waiting = self._queue.remove(job_id)
        if waiting is not None:
            self._cancelled.append(waiting)
        self._moved.set()

    async def _tell_places(self) -> None:
        """Tell those at the head of the line how many are ahead of them, when that changes."""
        told: dict[str, int] = {}
        while True:
            await self._line_changed.wait()
            self._line_changed.clear()
            now = dict(told)
            told = {}
            async with self._feeding:  # or a job might be told that it waits after it was started
                for place, waiting in enumerate(self._queue.in_turn(_TOLD)):
                    ahead = len(self._unstarted) + place
                    told[waiting.work.job_id] = ahead
                    if now.get(waiting.work.job_id) not in {None, ahead}:
                        with contextlib.suppress(WrongLastSequence):
                            await self._announce(waiting, ahead)
            await asyncio.sleep(_BETWEEN_TELLINGS_S)

    async def _announce(self, waiting: WaitingJob, ahead: int, msg_id: str | None = None) -> None:
        """Tell that a job waits. Raises WrongLastSequence if it has ended: an end is the last that is heard of it."""
        work, expected_ms = waiting.work, waiting.expected_ms
        eta_ms = None if expected_ms is None else round((ahead // self._estimator.worker_count() + 1) * expected_ms)
        queued = Queued(
            job_id=work.job_id,
            user=work.user,
            task=work.submit.task,
            job_class=work.job_class,
            log_seq=work.log_seq,
            replay_of=work.replay_of,
            total_steps=work.submit.steps,
            debug=work.submit.debug,
            ahead=ahead,
            eta_ms=eta_ms,
        )
        with tracing.span("job.announce", parent=_context(work)):
            await job_events.publish_event(self._bus, queued, msg_id=msg_id)


def _context(work: JobWork) -> Context:
    return tracing.extract(None, work.submit.traceparent)


def _subject(work: JobWork) -> str:
    return subjects.queue_entry(work.job_class, work.submit.task, work.user, work.job_id)
