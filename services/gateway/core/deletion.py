"""Deletes a job and its data for its owner: the result, previews, debug sessions, dead letters and the submission.

What remains for a week is a tombstone and, out of reach, the times and the hashes of the job.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from services.gateway.core.debug_sessions import list_sessions
from shared import subjects
from shared.job_events import load_submission
from shared.messages import Done
from shared.topology import JOB_DLQ, JOB_EV, JOB_LOG

if TYPE_CHECKING:
    from services.gateway.access.ownership import Ownership
    from services.gateway.core.jobs import Jobs
    from services.gateway.core.stores import Stores
    from shared.bus import Bus

log = logging.getLogger(__name__)


async def delete_job(bus: Bus, ownership: Ownership, jobs: Jobs, stores: Stores, owner: str, job_id: str) -> None:
    """Delete a job of this owner; one that has not ended is cancelled first.

    The tombstone is stored before anything is deleted: a submission with the same Idempotency-Key reads the log and
    then the tombstone, so it finds one of them. Raises NotFound, JobDeleted, BrokerUnavailable.
    """
    await jobs.cancel(owner, job_id)
    record = await jobs.find(owner, job_id)
    await bus.publish(subjects.purged_job(owner, job_id), b"deleted")
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
    log.info("job.deleted", extra={"job_id": job_id})
