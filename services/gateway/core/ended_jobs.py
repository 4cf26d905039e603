"""How the last jobs ended, which cannot change any more, kept in memory for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetools import FIFOCache

if TYPE_CHECKING:
    from shared.messages import JobRecord

_JOBS = 256


class EndedJobs:
    """The last jobs that somebody asked for after their end: nothing can happen to them."""

    def __init__(self) -> None:
        self._records: FIFOCache[str, JobRecord] = FIFOCache(_JOBS)

    def get(self, job_id: str) -> JobRecord | None:
        """Return the job's state if it is known to be final."""
        return self._records.get(job_id)

    def keep(self, record: JobRecord) -> None:
        """Remember the state if it is final."""
        if record.ended is not None:
            self._records.setdefault(record.job_id, record)
