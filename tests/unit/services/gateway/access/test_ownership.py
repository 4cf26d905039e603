"""The one owner of an open gateway."""

from __future__ import annotations

import pytest

from services.gateway.access.ownership import SingleOwner
from shared import subjects
from shared.bus import Bus
from shared.errors import BadMessage
from shared.messages import JobRecord, JobState

RECORD = JobRecord(job_id="j1", user="somebody", state=JobState.QUEUED, created_at=1, updated_at=1, last_seq=1)


async def load(job_id: str) -> JobRecord | None:
    """Return the state of a job that another submitted."""
    return RECORD if subjects.token(job_id) == "j1" else None


async def test_the_one_owner_has_every_job() -> None:
    """Under any name."""
    assert await SingleOwner(Bus()).owned_job("local", "j1", load) == RECORD
    assert await SingleOwner(Bus()).owned_job("local", "j2", load) is None


async def test_an_impossible_id_is_refused() -> None:
    """As on a gateway with keys."""
    with pytest.raises(BadMessage):
        await SingleOwner(Bus()).owned_job("local", "*", load)


def test_the_one_owner_lists_everything() -> None:
    """Jobs and debug sessions of every name."""
    one = SingleOwner(Bus())

    assert one.job_records("local") == subjects.ALL_RECORDS
    assert one.debug_sessions("local") == subjects.ALL_SESSIONS
    assert one.debug_session("local", "s1") == "$KV.sessions.*.s1"
