"""The cache of ended jobs."""

from __future__ import annotations

from services.gateway.core.jobs import EndedJobs
from shared.messages import Cancelled, JobRecord, JobState


def record(job_id: str, *, ended: bool) -> JobRecord:
    end = Cancelled(job_id=job_id) if ended else None
    return JobRecord(
        job_id=job_id, user="local", state=JobState.QUEUED, created_at=1, updated_at=2, last_seq=3, ended=end
    )


def test_only_jobs_that_have_ended_are_kept() -> None:
    """The state of a running job can change."""
    jobs = EndedJobs()
    ended = record("j1", ended=True)
    jobs.keep(ended)
    jobs.keep(record("j2", ended=False))

    assert (jobs.get("j1"), jobs.get("j2"), jobs.get("j3")) == (ended, None, None)


def test_ended_jobs_make_room_for_later_ones() -> None:
    """The cache has a fixed size."""
    jobs = EndedJobs()
    for number in range(257):
        jobs.keep(record(f"j{number}", ended=True))

    assert jobs.get("j0") is None
    assert jobs.get("j1") is not None
