"""What cannot change any more, kept in memory for a while: the pictures of results, and how jobs ended."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from shared import metrics

if TYPE_CHECKING:
    from shared.image_store import Bucket, ImageStore
    from shared.messages import ImageRef, JobRecord

_JOBS = 256


class RecentResults:
    """An ImageStore that remembers the results it has read last; everything else it only passes on."""

    def __init__(self, images: ImageStore, limit_bytes: int) -> None:
        self._images = images
        self._limit = limit_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None, *, anew: bool = False) -> ImageRef:
        """See ImageStore."""
        return await self._images.put(bucket, data, ref, anew=anew)

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """See ImageStore."""
        return await self._images.head(bucket, sha256)

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """See ImageStore."""
        if bucket != "results":
            return await self._images.get(bucket, sha256)
        kept = self._kept.get(sha256)
        metrics.looked_up("result", hit=kept is not None)
        if kept is not None:
            self._kept.move_to_end(sha256)
            return kept
        data = await self._images.get(bucket, sha256)
        self._keep(sha256, data)
        return data

    def _keep(self, sha256: str, data: bytes) -> None:
        if sha256 not in self._kept:
            self._kept[sha256] = data
            self._size += len(data)
        while self._size > self._limit:
            _, oldest = self._kept.popitem(last=False)
            self._size -= len(oldest)


class EndedJobs:
    """The last jobs that somebody asked for after their end: nothing can happen to them."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, JobRecord] = OrderedDict()

    def get(self, job_id: str) -> JobRecord | None:
        """Return the job's state if it is known to be final."""
        return self._records.get(job_id)

    def keep(self, record: JobRecord) -> None:
        """Remember the state if it is final."""
        if record.ended is not None:
            self._records[record.job_id] = record
            if len(self._records) > _JOBS:
                self._records.popitem(last=False)
