"""Reads the tombstones of deleted jobs: the gateway stores one before it deletes the data of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared import subjects
from shared.marks import REMOVED
from shared.topology import OWNED

if TYPE_CHECKING:
    from shared.bus import Bus


async def is_deleted(bus: Bus, owner: str, job_id: str) -> bool:
    """Return whether the owner has deleted this job. Raises BadMessage, BrokerUnavailable."""
    stored = await bus.last(OWNED, subjects.purged_job(owner, job_id))
    return stored is not None and stored.data != REMOVED


async def deleted_jobs(bus: Bus, owner: str) -> set[str]:
    """Return the ids of the jobs that the owner has deleted. Raises BrokerUnavailable."""
    found = await bus.history(OWNED, subjects.purged_jobs_of(owner))
    return {stored.subject.rpartition(".")[2] for stored in found if stored.data != REMOVED}
