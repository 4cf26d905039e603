"""A job's events on the bus: publish one, load the state and the attempts, end a job that cannot run."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from shared import metrics, subjects
from shared.bus import PUBLISH_S
from shared.errors import BadMessage, WrongLastSequence
from shared.jobs import fold, initial_record, is_end, parse_event
from shared.messages import Attempt, DeadLetter, Failed, JobRecord, Queued, Returned, Started
from shared.reading import read_or_skip
from shared.topology import JOB_EV, JOB_LOG, JOBS

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage
    from shared.errors import ArtMancerError
    from shared.messages import JobEvent, JobWork, Terminal

STOPPING = "stopping"  # the reason to return a job because its worker stops; such an attempt does not count
VANISHED = "vanished"  # the outcome of an attempt whose worker was lost
WORKER_LOST = "The worker was lost; trying again"
_RAW_BYTES = 256 * 1024  # in JSON they grow six times at most, and a message has 2 MB
log = logging.getLogger(__name__)


async def load_record(bus: Bus, job_id: str) -> JobRecord | None:
    """Return the state of a job from its events, or from the view if they have expired; None if it is unknown.

    Raises BrokerUnavailable; BadMessage for an invalid id.
    """
    history = await bus.history(JOB_EV, subjects.events_of(job_id))
    events = [(stored.seq, event) for stored in history if (event := parse_event(stored)) is not None]
    record: JobRecord | None = None
    if not events or not isinstance(events[0][1], Queued):
        record = await _from_log_or_view(bus, job_id)
    for seq, event in events:
        record = fold(record, event, seq)
    return record


async def _from_log_or_view(bus: Bus, job_id: str) -> JobRecord | None:
    viewed = read_or_skip(JobRecord, await bus.first(JOBS, subjects.job_record_anywhere(job_id)))
    if viewed is not None:
        return viewed
    logged = await bus.first(JOB_LOG, subjects.submissions_of(job_id))
    return None if logged is None else initial_record(logged)


async def load_submission(bus: Bus, record: JobRecord) -> StoredMessage | None:
    """Return the log entry of a job, None if the log no longer has it. Raises BrokerUnavailable."""
    if record.log_seq is None:
        return await bus.first(JOB_LOG, subjects.submissions_by(record.user, record.job_id))
    return await find_submission(bus, record.log_seq, record.user, record.replay_of or record.job_id)


async def find_submission(bus: Bus, seq: int, user: str, job_id: str) -> StoredMessage | None:
    """Return the submission of this job at a sequence of the log. Raises BrokerUnavailable.

    None if another message is there: a log that lost its last messages or was created again repeats sequences.
    """
    stored = await bus.get(JOB_LOG, seq)
    try:
        address = None if stored is None else subjects.parse_submission(stored.subject)
    except BadMessage:
        return None
    return stored if address is not None and (address.user, address.job_id) == (user, job_id) else None


async def has_ended(bus: Bus, job_id: str) -> bool:
    """Return whether the terminal event of a job is stored. Raises BrokerUnavailable."""
    return await _find_end(bus, job_id, await bus.last(JOB_EV, subjects.end(job_id))) is not None


async def _find_end(bus: Bus, job_id: str, newest: StoredMessage | None) -> StoredMessage | None:
    """Return the terminal event of a job, also below malformed messages on its subject; `newest` is the last one."""
    if newest is None or is_end(newest):
        return newest
    stored = await bus.history(JOB_EV, subjects.end(job_id))
    return next((each for each in stored if is_end(each)), None)


async def publish_event(
    bus: Bus,
    event: JobEvent,
    *,
    msg_id: str | None = None,
    headers: dict[str, str] | None = None,
    deadline_s: float = PUBLISH_S,
) -> None:
    """Store an event of a job that has not ended.

    Raises WrongLastSequence if the job has ended, BrokerUnavailable.
    """
    subject = subjects.event(event.job_id, event.type)
    await _publish_unless_ended(bus, subject, event, msg_id=msg_id, headers=headers, deadline_s=deadline_s)


async def publish_end(bus: Bus, event: Terminal, *, msg_id: str) -> None:
    """Store the terminal event of a job; of several writers exactly one succeeds.

    Raises WrongLastSequence if the job has ended, BrokerUnavailable.
    """
    await _publish_unless_ended(bus, subjects.end(event.job_id), event, msg_id=msg_id)


async def _publish_unless_ended(
    bus: Bus,
    subject: str,
    event: JobEvent,
    *,
    msg_id: str | None,
    headers: dict[str, str] | None = None,
    deadline_s: float = PUBLISH_S,
) -> None:
    """Store an event on the condition that no terminal event exists; a malformed message at its place is none."""
    end = subjects.end(event.job_id)
    expected = 0
    while True:
        try:
            await bus.publish(
                subject,
                event,
                msg_id=msg_id,
                expect_last=expected,
                expect_on=end,
                headers=headers,
                deadline_s=deadline_s,
            )
        except WrongLastSequence:
            newest = await bus.last(JOB_EV, end)
            ended = await _find_end(bus, event.job_id, newest)
            # The broker checks the sequence before the message id, so this may be our own first attempt, of which the
            # acknowledgement was lost.
            if ended is not None and ended.msg_id == msg_id:
                return
            seq = 0 if newest is None else newest.seq
            if ended is not None or seq == expected:
                raise
            expected = seq
        else:
            return


async def load_attempts(bus: Bus, job_id: str) -> list[Attempt]:
    """Return the attempts at a job with their outcomes, from its events. Raises BrokerUnavailable."""
    attempts: list[Attempt] = []
    for stored in await bus.history(JOB_EV, subjects.events_of(job_id)):
        match parse_event(stored):
            case Started() as event:
                attempts.append(
                    Attempt(number=event.attempt, worker=event.worker, started_at=event.at, outcome=VANISHED)
                )
            case Returned() as event:
                mine = [(attempt.worker, attempt.number) == (event.worker, event.attempt) for attempt in attempts]
                for place in [place for place, is_mine in enumerate(mine) if is_mine][-1:]:
                    end = {"ended_at": event.at, "outcome": event.reason}
                    attempts[place] = attempts[place].model_copy(update=end)
            case _:
                pass
    return attempts


def count_used_attempts(attempts: list[Attempt]) -> int:
    """Count the attempts, except those that ended because their worker stopped."""
    return sum(attempt.outcome != STOPPING for attempt in attempts)


def ended_unreported(attempts: list[Attempt]) -> bool:
    """Return whether the worker of the last attempt was lost without an event about the loss."""
    return bool(attempts) and attempts[-1].outcome == VANISHED and attempts[-1].ended_at is None


async def dead_letter_job(
    bus: Bus,
    job_id: str,
    error: ArtMancerError,
    *,
    attempts: int,
    log_seq: int | None = None,
    work: JobWork | None = None,
    raw: bytes | None = None,
    in_attempt: bool = False,
) -> None:
    """Store a dead letter with the history of the job's attempts, then end the job as failed. Idempotent.

    `raw` is the message as it came, if it could not be parsed; the letter has its first 256 KiB. `in_attempt`: the
    last attempt ended with this error, of which no other event is stored.
    Raises BrokerUnavailable.
    """
    metrics.DEAD_LETTERS.labels(error.code).inc()
    history = await load_attempts(bus, job_id)
    if in_attempt and ended_unreported(history):
        history[-1] = history[-1].model_copy(update={"ended_at": time.time(), "outcome": error.code})
    letter = DeadLetter(
        job_id=job_id,
        reason=error.code,
        message=error.message,
        attempts=attempts,
        history=history,
        log_seq=log_seq,
        work=work,
        raw=None if raw is None else raw[:_RAW_BYTES].decode(errors="replace"),
    )
    await bus.publish(subjects.dead_letter(letter.reason, job_id), letter, msg_id=f"{job_id}.dead")
    log.warning("job.dead-lettered", extra={"job_id": job_id, "reason": letter.reason, "attempts": attempts})
    failed = Failed(job_id=job_id, code=letter.reason, message=letter.message, attempt=attempts)
    try:
        await publish_end(bus, failed, msg_id=f"{job_id}.dead.end")
    except WrongLastSequence:
        log.info("job.ended-already", extra={"job_id": job_id})
    else:
        log.info("job.ended", extra={"job_id": job_id, "state": failed.type})
