"""Fetches the input images of the next job while another job runs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from shared import subjects
from shared.errors import ArtMancerError
from shared.messages import JobWork
from shared.reading import read_or_skip
from shared.topology import JOB_EV, JOB_Q

if TYPE_CHECKING:
    from services.a100worker.job.queues import PollOrder, Queue
    from shared.bus import Bus
    from shared.image_store import CachedImageStore

_INTERVAL_S = 1.0
_MAX_ENTRIES = 8  # entries to read of each queue: the first jobs may run on other workers
log = logging.getLogger(__name__)


class Prefetcher:
    """Fetches the inputs of this worker's probable next job. The job stays in its queue, free for other workers."""

    def __init__(self, bus: Bus, images: CachedImageStore, order: PollOrder) -> None:
        self._bus = bus
        self._images = images
        self._order = order

    async def run(self, running_seq: int) -> None:
        """Prefetch while the job with this sequence in JOB_Q runs. Runs until it is cancelled."""
        fetched = ""
        while True:
            await asyncio.sleep(_INTERVAL_S)  # wait first: most jobs of the CPU engines end within a second
            try:
                work = await self.find_next(running_seq)
                if work is not None and work.job_id != fetched:
                    for sha256 in work.submit.image_hashes().values():
                        await self._images.get("inputs", sha256)
                    fetched = work.job_id
                    log.info("job.prefetched", extra={"job_id": fetched})
            except ArtMancerError as error:  # the worker that runs the job reports it to the user
                log.debug("job.prefetch-failed", extra={"reason": error.message})

    async def find_next(self, running_seq: int) -> JobWork | None:
        """Return the first waiting job of the first queue that has one. Raises BrokerUnavailable."""
        for queue in self._order.list_queues():
            if (work := await self._find_first(queue, running_seq)) is not None:
                return work
        return None

    async def _find_first(self, queue: Queue, running_seq: int) -> JobWork | None:
        after = 0
        for _ in range(_MAX_ENTRIES):
            stored = await self._bus.first(JOB_Q, subjects.queue_entries_in(*queue), after)
            if stored is None:
                break
            after = stored.seq
            job_id = subjects.parse_queue_entry(stored.subject).job_id
            if after == running_seq or await self._bus.last(JOB_EV, subjects.event(job_id, "started")) is not None:
                continue
            if (work := read_or_skip(JobWork, stored)) is not None:
                return work
        return None
