"""Where logged submits come in: each becomes a job that waits for its turn, or is settled here, also a bad one.

All of it may be repeated: after a crash the log delivers again what was not settled.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared import subjects, tracing
from shared.errors import ArtMancerError, BadMessage, ImageNotFound, describe_invalid
from shared.job_events import dead_letter_job
from shared.messages import JobRecord, JobSubmit, JobWork
from shared.topology import JOB_EV, JOB_LOG, JOBS

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from services.jobmanager.durations import DurationEstimator
    from shared.bus import Bus
    from shared.deliveries import Delivery
    from shared.image_store import ImageStore
    from shared.messages import JobClass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that waits for its turn; its submit stays unsettled for so long."""

    work: JobWork
    delivery: Delivery
    expected_ms: float | None


class SubmissionExaminer:
    """Examines the submits of one class."""

    def __init__(self, bus: Bus, images: ImageStore, job_class: JobClass, estimator: DurationEstimator) -> None:
        self._bus = bus
        self._images = images
        self._class = job_class
        self._estimator = estimator

    async def examine(self, delivery: Delivery) -> WaitingJob | None:
        """Return the job, or None if there is none to run: it has ended, or cannot work. Raises BrokerUnavailable."""
        with tracing.span("job.admit", parent=_context(delivery)):
            return await self._examine(delivery)

    async def _examine(self, delivery: Delivery) -> WaitingJob | None:
        try:
            address = subjects.parse_submission(delivery.subject)
        except BadMessage as error:
            await self._refuse(subjects.unnamed_id(delivery.seq), delivery, error)
            return None
        job_id, replay_of = await self._identify(address.job_id, delivery.seq)
        if await self._has_ended(address.user, job_id):
            await delivery.ack_nowait()  # cancelled before it was queued, or settled before a crash
            return None
        try:
            work = JobWork(
                job_id=job_id,
                user=address.user,
                job_class=self._class,
                log_seq=delivery.seq,
                replay_of=replay_of,
                submit=_read(delivery.data).model_copy(update={"traceparent": tracing.current_traceparent()}),
            )
            return WaitingJob(work, delivery, await self._expected_ms(work.submit))
        except (BadMessage, ImageNotFound) as error:
            await self._refuse(job_id, delivery, error)
            return None

    async def _identify(self, job_id: str, log_seq: int) -> tuple[str, str | None]:
        """A job id that the log knows already is a replay: a new job. Only the log decides, so this may be repeated."""
        first = await self._bus.first(JOB_LOG, subjects.submissions_of(job_id))
        if first is None or first.seq >= log_seq:
            return job_id, None
        return subjects.replay_id(job_id, log_seq), job_id

    async def _has_ended(self, user: str, job_id: str) -> bool:
        """Also of a job whose events have expired: the log outlives them, and may be delivered from its beginning."""
        if await self._bus.last(JOB_EV, subjects.end(job_id)) is not None:
            return True
        viewed = await self._bus.last(JOBS, subjects.job_record(user, job_id))
        return (
            viewed is not None and viewed.data != b"" and JobRecord.model_validate_json(viewed.data).ended is not None
        )

    async def _expected_ms(self, submit: JobSubmit) -> float | None:
        for name, sha256 in submit.image_hashes().items():
            picture = await self._images.head("inputs", sha256)
            if picture is None:
                raise ImageNotFound(f"The {name.replace('_', ' ')} of this job is unknown or has expired.")
            if name == "image":
                pixels = picture.width * picture.height
        return self._estimator.duration_ms(submit.task, pixels, submit.steps)

    async def _refuse(self, job_id: str, delivery: Delivery, error: ArtMancerError) -> None:
        await dead_letter_job(self._bus, job_id, error, attempts=0, log_seq=delivery.seq, raw=delivery.data)
        await delivery.ack_nowait()
        log.warning("job.refused", extra={"job_id": job_id, "reason": error.message})


def _context(delivery: Delivery) -> Context:
    """Return the context in which a job was submitted; who writes one by hand may have put it into the body only."""
    try:
        in_body = None if tracing.TRACEPARENT in delivery.headers else _read(delivery.data).traceparent
    except BadMessage:
        in_body = None
    return tracing.extract(delivery.headers, in_body)


def _read(body: bytes) -> JobSubmit:
    try:
        return JobSubmit.model_validate_json(body)
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False)
        raise BadMessage(describe_invalid(errors, "job")) from error
