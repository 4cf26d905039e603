"""From the log of submitted jobs to the queue that workers pull from; every submit is settled here, also a bad one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared import subjects
from shared.bus import StreamFull, WrongLastSequence
from shared.deliveries import Delivery, consume
from shared.errors import BadMessage
from shared.messages import DeadLetter, Failed, JobClass, JobSubmit, JobWork, Queued
from shared.topology import DISPATCHERS, JOB_EV, JOB_LOG, JOB_Q

if TYPE_CHECKING:
    from shared.bus import Bus

_FULL_PAUSE_S = 1.0
log = logging.getLogger(__name__)


class Dispatcher:
    """Moves jobs from JOB_LOG to JOB_Q. All its steps may be repeated: the broker refuses what is already there."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def run(self, job_class: JobClass) -> None:
        """Dispatch one class for ever. Raises BrokerUnavailable."""
        async for delivery in consume(self._bus, JOB_LOG, DISPATCHERS[job_class]):
            await self._settle(delivery)

    async def _settle(self, delivery: Delivery) -> None:
        address = subjects.parse_submit(delivery.subject)
        job_id, replay_of = await self._identify(address.job_id, delivery.seq)
        try:
            work = JobWork(
                job_id=job_id,
                user=address.user,
                job_class=JobClass(address.job_class),
                log_seq=delivery.seq,
                replay_of=replay_of,
                submit=JobSubmit.model_validate_json(delivery.data),
            )
        except ValidationError as error:
            await self._refuse(job_id, delivery, BadMessage(_reason(error)))
        else:
            if not await self._queue(work):
                await delivery.retry(_FULL_PAUSE_S)
                return
        await delivery.ack_soon()

    async def _identify(self, job_id: str, log_seq: int) -> tuple[str, str | None]:
        """A job id that the log knows already is a replay: a new job. Only the log decides, so this may be repeated."""
        first = await self._bus.first(JOB_LOG, subjects.submits_of(job_id))
        if first is None or first.seq >= log_seq:
            return job_id, None
        suffix = f"-r{log_seq}"
        return job_id[: subjects.TOKEN_MAX - len(suffix)] + suffix, job_id

    async def _queue(self, work: JobWork) -> bool:
        """Announce the job and queue it; False if the queue is full."""
        if await self._bus.last(JOB_EV, subjects.end(work.job_id)) is not None:
            return True  # cancelled before it was queued
        await self._bus.publish(
            subjects.event(work.job_id, "queued"),
            Queued(
                job_id=work.job_id,
                user=work.user,
                task=work.submit.task,
                job_class=work.job_class,
                log_seq=work.log_seq,
                replay_of=work.replay_of,
                total_steps=work.submit.steps,
                debug=work.submit.debug,
            ),
            msg_id=f"{work.job_id}.queued",
        )
        subject = subjects.queued(work.job_class, work.submit.task, work.user, work.job_id)
        try:
            await self._bus.publish(subject, work, msg_id=f"{work.job_id}.{work.log_seq}")
        except StreamFull:
            # Refused for one of two reasons that share a code: this very job is queued already, or the queue is full.
            return await self._bus.last(JOB_Q, subject) is not None
        log.info("job.queued", extra={"job_id": work.job_id, "task": work.submit.task, "class": work.job_class})
        return True

    async def _refuse(self, job_id: str, delivery: Delivery, error: BadMessage) -> None:
        letter = DeadLetter(
            job_id=job_id,
            reason=error.code,
            message=error.message,
            attempts=0,
            log_seq=delivery.seq,
            raw=delivery.data.decode(errors="replace"),
        )
        await bury(self._bus, letter)
        log.warning("job.refused", extra={"job_id": job_id, "reason": error.message})


async def bury(bus: Bus, letter: DeadLetter) -> None:
    """Keep the dead letter, then end the job. Both steps may be repeated."""
    await bus.publish(subjects.dead(letter.reason, letter.job_id), letter, msg_id=f"{letter.job_id}.dead")
    failed = Failed(job_id=letter.job_id, code=letter.reason, message=letter.message, attempt=letter.attempts)
    try:
        await bus.publish_first(JOB_EV, subjects.end(letter.job_id), failed, msg_id=f"{letter.job_id}.dead.end")
    except WrongLastSequence:
        log.info("job.ended-already", extra={"job_id": letter.job_id})


def _reason(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"The job could not be read: {place + ': ' if place else ''}{first['msg']}."
