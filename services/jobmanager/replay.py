"""Runs logged jobs and dead letters again. A replay is a new job: the same body is logged again under the same id."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from shared import subjects, tracing
from shared.errors import BadInput, BadMessage
from shared.messages import DeadLetter, JobSubmit, RedriveRequest, ReplayedJob, ReplayReply, ReplayRequest
from shared.reading import read_or_skip
from shared.topology import JOB_DLQ, JOB_LOG

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage
    from shared.messages import JobClass

_MAX_JOBS = 1000  # the reply must fit into one message
_UNREADABLE = "The dead letter does not follow its schema; delete it from JOB_DLQ."
log = logging.getLogger(__name__)


class Replay:
    """Serves svc.job.replay and svc.job.redrive."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def replay(self, request: ReplayRequest) -> ReplayReply:
        """Log a range of submissions again. Raises BadInput for a range that is empty or too long."""
        last = request.to_seq if request.to_seq is not None else request.from_seq
        if not request.from_seq <= last < request.from_seq + _MAX_JOBS:
            raise BadInput(f"The range must hold 1 to {_MAX_JOBS} submissions.")
        jobs = []
        for seq in range(request.from_seq, last + 1):
            stored = await self._bus.get(JOB_LOG, seq)
            if stored is not None:
                jobs.append(await self._log_again(stored, request.job_class, dry_run=request.dry_run))
        return ReplayReply(dry_run=request.dry_run, jobs=jobs)

    async def redrive(self, request: RedriveRequest) -> ReplayReply:
        """Log the submissions of dead letters again, of one job or of all."""
        pattern = subjects.ALL_DEAD if request.job_id is None else subjects.dead_letters_of(request.job_id)
        letters = (await self._bus.history(JOB_DLQ, pattern))[:_MAX_JOBS]
        jobs = [await self._redrive_one(stored, request) for stored in letters]
        return ReplayReply(dry_run=request.dry_run, jobs=jobs)

    async def _redrive_one(self, stored: StoredMessage, request: RedriveRequest) -> ReplayedJob:
        letter = read_or_skip(DeadLetter, stored)
        if letter is None:
            return ReplayedJob(log_seq=None, job_id=subjects.unnamed_id(stored.seq), problem=_UNREADABLE)
        logged = None if letter.log_seq is None else await self._bus.get(JOB_LOG, letter.log_seq)
        if logged is None or not _is_of_letter(logged, letter):
            return ReplayedJob(
                log_seq=letter.log_seq, job_id=letter.job_id, problem="The log no longer holds its submission."
            )
        # Two redrives at once log a letter once: the broker drops the second message with the same id.
        msg_id = f"redrive.{stored.seq}.{letter.at}"
        job = await self._log_again(logged, request.job_class, dry_run=request.dry_run, msg_id=msg_id)
        if job.new_job_id is not None:
            await self._bus.delete(JOB_DLQ, stored.seq)
        return job

    async def _log_again(
        self, stored: StoredMessage, job_class: JobClass | None, *, dry_run: bool, msg_id: str | None = None
    ) -> ReplayedJob:
        try:
            address = subjects.parse_submission(stored.subject)
        except BadMessage as error:
            return ReplayedJob(log_seq=stored.seq, job_id=subjects.unnamed_id(stored.seq), problem=error.message)
        submission = read_or_skip(JobSubmit, stored)
        if submission is None:
            return ReplayedJob(log_seq=stored.seq, job_id=address.job_id, problem=BadMessage().message)
        if dry_run:
            return ReplayedJob(log_seq=stored.seq, job_id=address.job_id)
        subject = subjects.submission(job_class or address.job_class, address.user, address.job_id)
        # A new trace, linked to that of the submission: its header has priority over the traceparent in the body.
        with tracing.span("job.replay", links=tracing.link_to(tracing.extract(None, submission.traceparent))):
            seq = await self._bus.publish(subject, stored.data, msg_id=msg_id, verify_in=JOB_LOG)
        new_id = subjects.replay_id(address.job_id, seq)
        log.info("job.replayed", extra={"job_id": address.job_id, "new_job_id": new_id})
        return ReplayedJob(log_seq=stored.seq, job_id=address.job_id, new_job_id=new_id)


def _is_of_letter(logged: StoredMessage, letter: DeadLetter) -> bool:
    """Return whether this is the submission of the letter: a log that lost messages repeats their sequences."""
    try:
        job_id = subjects.parse_submission(logged.subject).job_id
    except BadMessage:
        return letter.job_id == subjects.unnamed_id(logged.seq)
    return letter.job_id in {job_id, subjects.replay_id(job_id, logged.seq)}
