"""Pictures that a worker has at hand: those of its last jobs and, while one runs, those of the job that is next."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared import metrics, subjects
from shared.errors import ArtMancerError
from shared.messages import JobWork
from shared.topology import JOB_EV, JOB_Q

if TYPE_CHECKING:
    from services.a100worker.lines import Line, Lines
    from shared.bus import Bus
    from shared.image_store import Bucket, ImageStore
    from shared.messages import ImageRef

_LOOK_EVERY_S = 1.0
_LOOK_AT_MOST = 8  # jobs in front of the next one may run elsewhere
log = logging.getLogger(__name__)


class NearbyPictures:
    """An ImageStore that keeps the inputs it has read last, up to a number of bytes; it passes on everything else."""

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
        if bucket != "inputs":
            return await self._images.get(bucket, sha256)
        kept = self._kept.get(sha256)
        metrics.looked_up("input", hit=kept is not None)
        if kept is not None:
            self._kept.move_to_end(sha256)
            return kept
        data = await self._images.get(bucket, sha256)
        self._keep(sha256, data)
        return data

    def _keep(self, sha256: str, data: bytes) -> None:
        if sha256 not in self._kept and len(data) <= self._limit:
            self._kept[sha256] = data
            self._size += len(data)
        while self._size > self._limit:
            _, oldest = self._kept.popitem(last=False)
            self._size -= len(oldest)


class LookAhead:
    """Fetches the inputs of the job that this worker would take next, without taking it: it stays everybody's."""

    def __init__(self, bus: Bus, pictures: NearbyPictures, lines: Lines) -> None:
        self._bus = bus
        self._pictures = pictures
        self._lines = lines

    async def run(self, seq: int) -> None:
        """Look again and again while the job with this sequence in JOB_Q runs; never returns."""
        fetched = ""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)  # first: most jobs of the CPU engines are over by then
            try:
                work = await self.next(seq)
                if work is not None and work.job_id != fetched:
                    for sha256 in work.submit.pictures().values():
                        await self._pictures.get("inputs", sha256)
                    fetched = work.job_id
                    log.info("job.fetched-ahead", extra={"job_id": fetched})
            except ArtMancerError as error:  # whoever runs the job will say so
                log.debug("job.not-fetched-ahead", extra={"reason": error.message})

    async def next(self, seq: int) -> JobWork | None:
        """Return the job that waits first in the first line that has one. Raises BrokerUnavailable."""
        for line in self._lines.in_order():
            if (work := await self._first(line, seq)) is not None:
                return work
        return None

    async def _first(self, line: Line, running: int) -> JobWork | None:
        after = 0
        for _ in range(_LOOK_AT_MOST):
            stored = await self._bus.first(JOB_Q, subjects.queued_in(*line), after)
            if stored is None:
                break
            after = stored.seq
            job_id = subjects.parse_queued(stored.subject).job_id
            if after == running or await self._bus.last(JOB_EV, subjects.event(job_id, "started")) is not None:
                continue
            try:
                return JobWork.model_validate_json(stored.data)
            except ValidationError:
                continue
        return None
