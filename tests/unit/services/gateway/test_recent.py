"""What is kept in memory, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.gateway.recent import EndedJobs, RecentResults
from shared.messages import Cancelled, ImageRef, JobRecord, JobState

if TYPE_CHECKING:
    from shared.image_store import Bucket


class Shelf:
    """A store whose pictures are their own names, ten times; it counts what is read."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None, *, anew: bool = False) -> ImageRef:
        """Take the reference as it is."""
        assert ref is not None
        assert (ref.bucket, ref.size_bytes, anew) == (bucket, len(data), False)
        return ref

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """Nothing is here to be looked at."""
        assert bucket
        assert sha256
        return None

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """Read."""
        self.reads.append(f"{bucket}/{sha256}")
        return sha256.encode() * 10


def record(job_id: str, *, ended: bool) -> JobRecord:
    end = Cancelled(job_id=job_id) if ended else None
    return JobRecord(
        job_id=job_id, user="local", state=JobState.QUEUED, created_at=1, updated_at=2, last_seq=3, ended=end
    )


async def test_a_result_is_read_once() -> None:
    """While it fits."""
    shelf = Shelf()
    recent = RecentResults(shelf, limit_bytes=20)
    pictures = [await recent.get("results", name) for name in ("a", "a", "b", "a")]

    assert pictures == [b"a" * 10, b"a" * 10, b"b" * 10, b"a" * 10]
    assert shelf.reads == ["results/a", "results/b"]


async def test_the_one_that_nobody_wanted_for_longest_goes_first() -> None:
    """When there is no room for all."""
    shelf = Shelf()
    recent = RecentResults(shelf, limit_bytes=20)
    for name in ("a", "b", "a", "c", "a", "b"):
        await recent.get("results", name)

    assert shelf.reads == ["results/a", "results/b", "results/c", "results/b"]


@pytest.mark.parametrize("bucket", ["inputs", "cache", "debug"])
async def test_only_results_are_kept(bucket: Bucket) -> None:
    """All else is read once or belongs to somebody else's memory."""
    shelf = Shelf()
    recent = RecentResults(shelf, limit_bytes=20)
    for _ in range(2):
        await recent.get(bucket, "a")

    assert len(shelf.reads) == 2


async def test_a_result_larger_than_the_memory_is_passed_on() -> None:
    """And takes nothing from the others for long."""
    shelf = Shelf()
    recent = RecentResults(shelf, limit_bytes=5)
    pictures = [await recent.get("results", "a") for _ in range(2)]

    assert pictures == [b"a" * 10] * 2
    assert len(shelf.reads) == 2


def test_only_jobs_that_have_ended_are_kept() -> None:
    """Others may change."""
    jobs = EndedJobs()
    ended = record("j1", ended=True)
    jobs.keep(ended)
    jobs.keep(record("j2", ended=False))

    assert (jobs.get("j1"), jobs.get("j2"), jobs.get("j3")) == (ended, None, None)


def test_ended_jobs_make_room_for_later_ones() -> None:
    """Only so many are kept."""
    jobs = EndedJobs()
    for number in range(257):
        jobs.keep(record(f"j{number}", ended=True))

    assert jobs.get("j0") is None
    assert jobs.get("j1") is not None
