"""Moves the jobs of one class from the log to JOB_Q, from which workers pull.

The order of JOB_Q cannot be changed, so it is kept short: jobs wait on the board, unsettled in the log. Each step may
be repeated: after a crash the log delivers unsettled submissions again, and the broker refuses duplicates.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from services.jobmanager.announcer import Announcer
from services.jobmanager.board import Board
from services.jobmanager.reconciler import Reconciler
from services.jobmanager.submissions import SubmissionExaminer, context_of_work, queue_subject
from shared import deliveries, subjects, tracing
from shared.errors import BrokerUnavailable, StreamFull
from shared.jobs import is_end
from shared.topology import DISPATCHERS, JOB_LOG, JOB_Q

if TYPE_CHECKING:
    from services.jobmanager.board import WaitingJob
    from services.jobmanager.durations import DurationEstimator
    from services.jobmanager.settings import Settings
    from services.jobmanager.submissions import StoredInputs
    from shared.bus import Bus, StoredMessage
    from shared.deliveries import Delivery
    from shared.messages import JobClass, JobWork

log = logging.getLogger(__name__)


class Dispatcher:
    """Dispatches the jobs of one class, fairly between owners. JOB_Q holds few unstarted jobs: one for each worker."""

    def __init__(
        self, bus: Bus, images: StoredInputs, job_class: JobClass, estimator: DurationEstimator, settings: Settings
    ) -> None:
        self.board = Board()
        self._bus = bus
        self._class = job_class
        self._estimator = estimator
        self._lookahead = settings.lookahead
        self._examiner = SubmissionExaminer(bus, images, job_class, estimator)
        self._announcer = Announcer(bus, self.board, estimator, self._note_change)
        self._compare_s = settings.compare_s
        self._reconciler = Reconciler(
            bus, self.board, job_class, settings.streams.lease_s, self._note_change, settings.compare_s
        )
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Dispatch until the connection to the broker has been lost and is back. Raises BrokerUnavailable."""
        connect = self._bus.connects
        self.board.forget_waiting()
        await self._reconciler.start()
        await deliveries.redeliver_unsettled(self._bus, JOB_LOG, DISPATCHERS[self._class])
        async with (
            self._bus.subscribe(subjects.LIVE_STARTS, self._apply_event),
            self._bus.subscribe(subjects.LIVE_ENDS, self._apply_event),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._receive_submissions(), name=f"dispatch.receive-{self._class}")
            group.create_task(self._queue_jobs(), name=f"dispatch.queue-{self._class}")
            group.create_task(self._reconciler.run(), name=f"dispatch.reconcile-{self._class}")
            group.create_task(self._announcer.run(), name=f"dispatch.announce-{self._class}")
            group.create_task(self._end_when_reconnected(connect), name=f"dispatch.reconnect-{self._class}")

    def search_lost_jobs(self) -> None:
        """Search for lost jobs at the next comparison, because a stream was created again."""
        self._reconciler.recall.search_again()

    async def waiting(self) -> list[tuple[str, str]]:
        """Return owner and id of each job that no worker has. Raises BrokerUnavailable."""
        in_queue = await self._reconciler.unstarted_in_queue()
        return in_queue + [(job.work.user, job.job_id) for job in self.board.waiting()]

    async def _end_when_reconnected(self, connect: int) -> None:
        """Start over: an ack that was lost with the broker would bring its submission back only after a day."""
        await self._bus.next_connect(connect)
        raise BrokerUnavailable

    def _note_change(self) -> None:
        self._changed.set()
        self._announcer.note_change()

    def _apply_event(self, stored: StoredMessage) -> None:
        job_id = subjects.job_of_event(stored.subject)
        if job_id not in self.board:  # a job of another class changes nothing here
            return
        if subjects.kind_of_event(stored.subject) == subjects.TERMINAL:
            if is_end(stored):
                self.board.remove(job_id)
        else:
            self.board.start(job_id)
        self._note_change()

    async def _receive_submissions(self) -> None:
        async for arrived in deliveries.consume(self._bus, JOB_LOG, DISPATCHERS[self._class]):
            self.board.undelivered = len(arrived) + arrived[-1].pending
            await self._admit(await self._examine(arrived))
            self.board.undelivered = arrived[-1].pending

    async def _examine(self, arrived: list[Delivery]) -> list[WaitingJob]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._examiner.examine(delivery), name=f"dispatch.examine-{delivery.seq}")
                for delivery in arrived
            ]
        return [job for task in tasks if (job := task.result()) is not None]

    async def _admit(self, examined: list[WaitingJob]) -> None:
        """Add the jobs to the board in the order of the log, and announce them side by side."""
        async with asyncio.TaskGroup() as group:
            for job in examined:
                seq = job.work.log_seq
                if self.board.is_open(job.job_id):
                    # Its ack was lost. Publishing it here could run it twice: if JOB_Q has lost it, the reconciler
                    # queues it again. A running publish settles it.
                    if self.board.is_queued(job.job_id):
                        await job.delivery.ack_nowait()
                elif (ahead := self.board.add(job)) is not None:
                    announcement = self._announcer.announce(job, ahead, msg_id=f"{job.job_id}.queued")
                    group.create_task(announcement, name=f"dispatch.announce-{seq}")

    async def _queue_jobs(self) -> None:
        """Put jobs into JOB_Q, one for each worker: the order of those that wait here stays fair."""
        while True:
            self._changed.clear()
            for job in self.board.take_superseded():
                await job.delivery.ack_nowait()
            capacity = max(self._lookahead, self._estimator.worker_count())
            async with asyncio.TaskGroup() as group:
                while (taken := self.board.take(capacity)) is not None:
                    group.create_task(self._queue(taken), name=f"dispatch.queue-{taken.work.log_seq}")
                    self._announcer.note_change()
            await self._changed.wait()

    async def _queue(self, job: WaitingJob) -> None:
        if await self._publish(job.work):
            self.board.confirm(job.job_id)
            await job.delivery.ack_nowait()
        else:
            self.board.refuse(job.job_id)
            await job.delivery.retry(self._compare_s)

    async def _publish(self, work: JobWork) -> bool:
        """Publish a job to JOB_Q, unless it is there already. Return False if JOB_Q is full."""
        try:
            with tracing.span("job.queue", parent=context_of_work(work)):
                await self._bus.publish(queue_subject(work), work, msg_id=f"{work.job_id}.{work.log_seq}")
        except StreamFull:
            # One code for two reasons: JOB_Q holds this job already, or JOB_Q is full.
            if await self._bus.last(JOB_Q, queue_subject(work)) is None:
                return False
        log.info("job.queued", extra={"job_id": work.job_id, "task": work.submit.task, "class": work.job_class})
        return True
