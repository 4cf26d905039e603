"""Submits jobs for /v1, at most once for each Idempotency-Key.

The job's id is derived from the owner and the key, so each replica finds an earlier submission in the broker's log.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID, uuid4, uuid5

from shared import subjects
from shared.errors import BadInput, Conflict, ImageNotFound, JobDeleted
from shared.messages import JobSubmit
from shared.reading import read_or_skip
from shared.tasks import needs, require_images

if TYPE_CHECKING:
    from services.gateway.core.jobs import Jobs
    from services.gateway.core.uploads import Uploads
    from services.gateway.v1.schemas import JobSubmission
    from shared.bus import StoredMessage

_KEYS = UUID("5d0c3f0a-6b1e-4e0b-9a77-0d6f1f3c2b58")
_SEEDS = 2**31
FORGOTTEN = (
    "The submission of this Idempotency-Key is no longer stored, so this one cannot be compared with it; "
    "use a new key for a new submission."
)
_NOT_COMPARED = {"submitted_at", "traceparent"}


async def submit(
    jobs: Jobs, uploads: Uploads, owner: str, key: str | None, submission: JobSubmission
) -> tuple[str, bool]:
    """Submit a job unless this key has one; return the job's id and whether the job is new.

    Raises BadInput, also for a key with another submission, Conflict for a key whose submission can no longer be
    compared, JobDeleted for a key with a deleted job, and ImageNotFound, Busy, BrokerUnavailable.
    """
    job_id = str(uuid4() if key is None else uuid5(_KEYS, f"{owner}/{key}"))
    message = message_of(submission, job_id)
    if key is not None:
        has_run = await jobs.is_known(owner, job_id)  # read before the log, which stores every job first
        if await _is_known(jobs, owner, job_id, message, submission):
            return job_id, False
        if has_run:
            raise Conflict(FORGOTTEN)
    await _check(uploads, owner, message)
    await jobs.submit(owner, message, submission.job_class, job_id)
    if key is not None:
        # The broker drops the second of two messages with one id. If it dropped this one, compare with the first.
        await _is_known(jobs, owner, job_id, message, submission)
    return job_id, True


def message_of(submission: JobSubmission, job_id: str) -> JobSubmit:
    """Return the submission as a bus message; a missing seed is derived from the job's id. Raises BadInput."""
    require_images(submission.task, mask=submission.mask, reference=submission.reference)
    fields = submission.model_dump(exclude={"job_class"}, exclude_none=True)
    fields["variant"] = submission.variant or None  # release 0.1.0 refuses a field that it does not know
    fields["exact_mask"] = submission.exact_mask or None
    fields["temperature"] = submission.temperature or None
    return JobSubmit.model_validate({"seed": UUID(job_id).int % _SEEDS, **fields})


async def _is_known(jobs: Jobs, owner: str, job_id: str, message: JobSubmit, submission: JobSubmission) -> bool:
    logged = await jobs.find_log_entry(job_id)
    if await jobs.is_deleted(owner, job_id):  # after the log: a deletion stores its tombstone before it deletes there
        raise JobDeleted("The Idempotency-Key belongs to a job that you have deleted; use a new key.")
    if logged is not None and not _is_same(logged, message, submission):
        raise BadInput("The Idempotency-Key belongs to another submission; use a new key for a new submission.")
    return logged is not None


def _is_same(logged: StoredMessage, message: JobSubmit, submission: JobSubmission) -> bool:
    known = read_or_skip(JobSubmit, logged)
    if known is None:
        return False
    same_class = subjects.parse_submission(logged.subject).job_class == submission.job_class
    return same_class and known.model_dump(exclude=_NOT_COMPARED) == message.model_dump(exclude=_NOT_COMPARED)


async def _check(uploads: Uploads, owner: str, message: JobSubmit) -> None:
    await require(uploads, owner, **message.image_hashes())
    if needs(message.task).mask and message.mask and await uploads.is_empty_mask(message.mask):
        raise BadInput("The field mask names an empty mask; mark the region to edit.")


async def require(uploads: Uploads, owner: str, **images: str | None) -> None:
    """Check that the owner has all these images, by field. Raises ImageNotFound with the field, BrokerUnavailable."""
    sent = ((field, sha256) for field, sha256 in images.items() if sha256 is not None)
    named = {field: sha256 for field, sha256 in sent if not uploads.had_lately(owner, sha256)}
    found = await asyncio.gather(*(uploads.has(owner, sha256) for sha256 in named.values()))
    for field, is_there in zip(named, found, strict=True):
        if not is_there:
            raise ImageNotFound(f"The field {field} names an image that is not there; upload it first.")
