"""Deletes a job and its data for its owner: the result, previews, debug sessions, dead letters and the submission.

A tombstone remains for a week, as do the times and the hashes of the job, which the API does not return.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from services.gateway.core.debug_sessions import list_sessions
from shared import subjects
from shared.errors import JobDeleted, NotFound
from shared.job_events import load_submission
from shared.messages import Done
from shared.topology import JOB_DLQ, JOB_EV, JOB_LOG

if TYPE_CHECKING:
    from services.gateway.access.ownership import Ownership
    from services.gateway.core.jobs import Jobs
    from services.gateway.core.stores import Stores
    from shared.bus import Bus
    from shared.messages import JobRecord

log = logging.getLogger(__name__)


async def delete_job(bus: Bus, ownership: Ownership, jobs: Jobs, stores: Stores, owner: str, job_id: str) -> None:
    """Delete a job of this owner; one that has not ended is cancelled first.

    The tombstone is stored before anything is deleted: a submission with the same Idempotency-Key reads the log and
    then the tombstone, so it finds one of them. A deletion that was interrupted is finished by the next one. Raises
    NotFound, JobDeleted, BrokerUnavailable.
    """
    try:
        await jobs.cancel(owner, job_id)
        record = await jobs.find(owner, job_id)
    except JobDeleted:
        with suppress(NotFound):  # its record has expired, and its data before
            await _delete_data(bus, ownership, stores, owner, await jobs.find(owner, job_id, even_deleted=True))
        raise
    await bus.publish(subjects.purged_job(owner, job_id), b"deleted")
    await _delete_data(bus, ownership, stores, owner, record)
    log.info("job.deleted", extra={"job_id": job_id})


async def _delete_data(bus: Bus, ownership: Ownership, stores: Stores, owner: str, record: JobRecord) -> None:
    """Delete all data of a job. Data that is already deleted is no error. Raises BrokerUnavailable."""
    job_id = record.job_id
    await stores.remove_results(
        record.user, job_id, record.ended.result.sha256 if isinstance(record.ended, Done) else None
    )
    sessions = await list_sessions(bus, ownership, owner)
    await stores.remove_sessions([session for session in sessions if session.job_id == job_id])
    await bus.purge(JOB_EV, subjects.event(job_id, "preview"))
    await bus.purge(JOB_DLQ, subjects.dead_letters_of(job_id))
    submission = await load_submission(bus, record)
    if submission is not None:
        await bus.delete(JOB_LOG, submission.seq)
