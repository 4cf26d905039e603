"""Settles a job on this worker: ended, returned to the queue, or dead-lettered. The first terminal event wins."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from uuid import uuid4

from services.a100worker import metrics
from shared import job_events, subjects, versions
from shared.bus import PUBLISH_S
from shared.errors import (
    ArtMancerError,
    BadInput,
    BadMessage,
    EngineFailed,
    EngineHung,
    JobCancelled,
    NotFound,
    TooManyAttempts,
    WrongLastSequence,
)
from shared.messages import Done, JobWork, Progress, Returned, Started

if TYPE_CHECKING:
    from services.a100worker.settings import Settings
    from shared.bus import Bus
    from shared.deliveries import Delivery

_MIN_DEADLINE_S = 1.0  # a healthy broker needs milliseconds
log = logging.getLogger(__name__)


class Settlement:
    """Settles one delivery of one job. After BrokerUnavailable it is not settled: the job returns when its lease ends.

    Once the terminal event is stored, the delivery is acknowledged without waiting. If that acknowledgement is lost,
    the job is delivered again, and the broker rejects its `started` event.
    """

    def __init__(self, settings: Settings, bus: Bus, work: JobWork, delivery: Delivery) -> None:
        self._settings = settings
        self._bus = bus
        self._work = work
        self._delivery = delivery
        self.attempt = 0

    async def begin(self, engine: str) -> bool:
        """Publish that the job has started. Return False if it is over: ended elsewhere, or out of attempts."""
        is_unreported = False
        if self._delivery.attempt > 1 or self._work.again:
            attempts = await job_events.load_attempts(self._bus, self._work.job_id)
            is_unreported = job_events.ended_unreported(attempts)
            self.attempt = job_events.count_used_attempts(attempts)
            if self.attempt >= self._settings.streams.max_deliver:
                if not await self._has_ended():
                    await self._dead_letter(TooManyAttempts())
                return False
        self.attempt += 1
        started = Started(job_id=self._work.job_id, worker=self._settings.name, engine=engine, attempt=self.attempt)
        try:
            await job_events.publish_event(self._bus, started, msg_id=uuid4().hex)
            if is_unreported:
                notice = Progress(job_id=started.job_id, phase="loading", fraction=0.0, message=job_events.WORKER_LOST)
                await job_events.publish_event(self._bus, notice, msg_id=uuid4().hex)
        except WrongLastSequence:
            await self._delivery.ack_nowait()
            return False
        log.info("job.started", extra=self._log_fields(task=self._work.submit.task))
        return True

    async def end(self, done: Done) -> bool:
        """Publish the terminal event and acknowledge the delivery. Return False if there was one already."""
        is_first = False
        try:
            await job_events.publish_end(self._bus, done, msg_id=uuid4().hex)
        except WrongLastSequence:
            self._count("too-late")
            log.info("job.ended-already", extra=self._log_fields())
        else:
            is_first = True
            self._count("done")
            log.info("job.ended", extra=self._log_fields(state=done.type))
        await self._delivery.ack_nowait()
        return is_first

    async def _has_ended(self) -> bool:
        if not await job_events.has_ended(self._bus, self._work.job_id):
            return False
        await self._delivery.ack_nowait()
        return True

    async def fail(self, error: ArtMancerError, *, stopping: bool) -> None:
        """Settle an attempt without a result. Retry the job unless its input is bad or no attempt is left."""
        if isinstance(error, BadInput | NotFound):
            self._count("refused")
            await self._dead_letter(error, in_attempt=True)
            return
        # After a user's cancel the broker refuses the event that `_return` publishes. Any other cancel comes from
        # the service or the engine.
        if isinstance(error, JobCancelled) and not stopping:
            error = EngineFailed("The engine stopped before it finished this job.")
        handed_back = isinstance(error, JobCancelled) or (stopping and isinstance(error, EngineHung))
        try:
            deadline_s = max(self._settings.hand_back_s, _MIN_DEADLINE_S) if stopping else PUBLISH_S
            await self._return(job_events.STOPPING if handed_back else error.code, deadline_s)
        except WrongLastSequence:
            self._count("cancelled")
            log.info("job.cancelled", extra=self._log_fields())
            await self._delivery.ack_nowait()
            return
        if handed_back:
            await self._delivery.hand_back(deadline_s)
        elif self.attempt >= self._settings.streams.max_deliver:
            await self._dead_letter(error)
        else:
            await self._delivery.retry(self._settings.retry_delay_s)

    async def _return(self, reason: str, deadline_s: float) -> None:
        """Publish that the attempt is over. Raises WrongLastSequence if the job has ended.

        Publishes it also after the last attempt, because the dead letter lists every attempt.
        """
        returned = Returned(job_id=self._work.job_id, worker=self._settings.name, attempt=self.attempt, reason=reason)
        await job_events.publish_event(self._bus, returned, msg_id=uuid4().hex, deadline_s=deadline_s)
        self._count("returned")
        log.warning("job.returned", extra=self._log_fields(reason=reason))

    async def _dead_letter(self, error: ArtMancerError, *, in_attempt: bool = False) -> None:
        work, attempts = self._work, self.attempt
        await job_events.dead_letter_job(
            self._bus, work.job_id, error, attempts=attempts, log_seq=work.log_seq, work=work, in_attempt=in_attempt
        )
        await self._delivery.ack()

    def _count(self, outcome: str) -> None:
        metrics.ATTEMPTS.labels(self._work.submit.task, outcome).inc()

    def _log_fields(self, **more: object) -> dict[str, object]:
        return {"job_id": self._work.job_id, "attempt": self.attempt, **more}


async def reject_unreadable(bus: Bus, delivery: Delivery) -> None:
    """Dead-letter a queue entry that does not follow the schema, for example one that an operator has published.

    An entry of a newer release goes back to the queue, for a worker of that release, and uses no attempt.
    """
    if versions.is_newer(JobWork, delivery.data):
        log.warning("job.newer", extra={"subject": delivery.subject, "delivery": delivery.attempt})
        await delivery.retry(versions.HAND_BACK_S)
        return
    log.error("job.unreadable", extra={"subject": delivery.subject})
    try:
        job_id = subjects.token(subjects.parse_queue_entry(delivery.subject).job_id)
    except BadMessage:
        await delivery.drop("unreadable")
        return
    await job_events.dead_letter_job(bus, job_id, BadMessage(), attempts=delivery.attempt, raw=delivery.data)
    await delivery.ack()
