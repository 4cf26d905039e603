"""Turns logged submissions into waiting jobs, and settles those that cannot become one.

Every step may be repeated: after a crash the log delivers unsettled submissions again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from services.jobmanager.board import WaitingJob
from shared import job_events, subjects, tracing, versions
from shared.errors import ArtMancerError, BadMessage, ImageNotFound
from shared.marks import Reservation
from shared.messages import JobRecord, JobSubmit, JobWork
from shared.reading import read, read_or_skip
from shared.topology import JOB_LOG, JOBS

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from services.jobmanager.durations import DurationEstimator
    from shared.bus import Bus
    from shared.deliveries import Delivery
    from shared.messages import JobClass
    from shared.subjects import SubmissionAddress

log = logging.getLogger(__name__)


class StoredInputs(Protocol):
    """See `shared.image_store.StoredImages`."""

    async def renew(self, sha256: str) -> tuple[int | None, bool]:
        """Renew an input. Return its number of pixels if that is known, and whether it became a copy without a mark.

        Raises ImageNotFound, BrokerUnavailable.
        """


class SubmissionExaminer:
    """Examines the submissions of one class."""

    def __init__(self, bus: Bus, images: StoredInputs, job_class: JobClass, estimator: DurationEstimator) -> None:
        self._bus = bus
        self._images = images
        self._class = job_class
        self._estimator = estimator

    async def examine(self, delivery: Delivery) -> WaitingJob | None:
        """Return the job, or None after settling a submission with nothing to run. Raises BrokerUnavailable."""
        with tracing.span("job.admit", parent=_context_of_delivery(delivery)):
            return await self._examine(delivery)

    async def _examine(self, delivery: Delivery) -> WaitingJob | None:
        try:
            address = subjects.parse_submission(delivery.subject)
        except BadMessage as error:
            await self._refuse(subjects.unnamed_id(delivery.seq), delivery, error)
            return None
        job_id, replay_of, has_ended = await identify(self._bus, address, delivery.seq)
        if has_ended:
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
            pixels, is_copied = await self._keep_inputs(work.submit)
            if is_copied or not _is_from_gateway(delivery, address.job_id):
                await self._reserve(work, pixels or 0)
            expected_ms = pixels and self._estimator.duration_ms(work.submit.task, pixels, work.submit.steps)
            return WaitingJob(work, delivery, expected_ms)
        except (BadMessage, ImageNotFound) as error:
            if versions.is_newer(JobSubmit, delivery.data):
                await self._hand_back(job_id, delivery)
            else:
                await self._refuse(job_id, delivery, error)
            return None

    async def _keep_inputs(self, submission: JobSubmit) -> tuple[int | None, bool]:
        """Keep the inputs; return the number of pixels of the image if that is known, and whether one was copied."""
        is_copied = False
        for name, sha256 in submission.image_hashes().items():
            try:
                size, is_copy = await self._images.renew(sha256)
            except ImageNotFound as error:
                message = f"The {name.replace('_', ' ')} of this job is unknown or has expired."
                raise ImageNotFound(message) from error
            is_copied |= is_copy
            if name == "image":
                pixels = size
        return pixels, is_copied

    async def _reserve(self, work: JobWork, pixels: int) -> None:
        """Keep the inputs, and room for the result, as a gateway does for the jobs that it submits.

        At the end of the job a gateway deletes the inputs without a mark.
        """
        inputs = sorted(set(work.submit.image_hashes().values()))
        job = Reservation(inputs=inputs, result_bytes=Reservation.largest_result_bytes(pixels), by_hand=True)
        await self._bus.publish(subjects.waiting_job(work.user, work.job_id), job)

    async def _hand_back(self, job_id: str, delivery: Delivery) -> None:
        """Leave a submission of a newer release in the log, for a job manager of that release."""
        log.warning("job.newer", extra={"job_id": job_id, "delivery": delivery.attempt})
        await delivery.retry(versions.HAND_BACK_S)

    async def _refuse(self, job_id: str, delivery: Delivery, error: ArtMancerError) -> None:
        await job_events.dead_letter_job(self._bus, job_id, error, attempts=0, log_seq=delivery.seq, raw=delivery.data)
        await delivery.ack_nowait()
        log.warning("job.refused", extra={"job_id": job_id, "code": error.code, "reason": error.message})


async def identify(bus: Bus, address: SubmissionAddress, log_seq: int) -> tuple[str, str | None, bool]:
    """Return the id of a logged job, the id that it replays, and whether it has ended.

    A second submission under one id is a new job. Only stored facts decide, so a repeated examination gives the same
    answer. The first submission may have left the log since; then the record of its job has another sequence. Events
    may have expired before the log, so the view is read as well. Raises BrokerUnavailable.
    """
    job_id = address.job_id
    first, viewed, is_over = await asyncio.gather(
        bus.first(JOB_LOG, subjects.submissions_of(job_id)),
        _view(bus, address.user, job_id),
        job_events.has_ended(bus, job_id),
    )
    has_ended = viewed is not None and viewed.ended is not None
    if first is None or first.seq >= log_seq:
        is_other = has_ended and viewed is not None and viewed.log_seq not in {None, log_seq}
        if not is_other:
            return job_id, None, has_ended or is_over
    replay_id = subjects.replay_id(job_id, log_seq)
    viewed = await _view(bus, address.user, replay_id)
    has_ended = (viewed is not None and viewed.ended is not None) or await job_events.has_ended(bus, replay_id)
    return replay_id, job_id, has_ended


async def _view(bus: Bus, owner: str, job_id: str) -> JobRecord | None:
    return read_or_skip(JobRecord, await bus.last(JOBS, subjects.job_record(owner, job_id)))


def context_of_work(work: JobWork) -> Context:
    """Return the trace context in which a job was submitted."""
    return tracing.extract(None, work.submit.traceparent)


def queue_subject(work: JobWork) -> str:
    """Return the subject of a job in JOB_Q."""
    return subjects.queue_entry(work.job_class, work.submit.task, work.user, work.job_id)


def _context_of_delivery(delivery: Delivery) -> Context:
    """Return the trace context of a submission. One written by hand may have it in the body only."""
    try:
        in_body = None if tracing.TRACEPARENT in delivery.headers else _read(delivery.data).traceparent
    except BadMessage:
        in_body = None
    return tracing.extract(delivery.headers, in_body)


def _is_from_gateway(delivery: Delivery, job_id: str) -> bool:
    """Return whether a gateway has stored this submission: it has kept the inputs.

    Not a replay, and not one that an operator stored.
    """
    msg_id = delivery.headers.get("Nats-Msg-Id", "")
    return msg_id == job_id or msg_id.startswith(f"{job_id}.")


def _read(body: bytes) -> JobSubmit:
    return read(JobSubmit, body, "job")
