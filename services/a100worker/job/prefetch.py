"""What a worker does beside a job: it fetches the pictures of the next one."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared import subjects
from shared.errors import ArtMancerError
from shared.messages import JobWork
from shared.topology import JOB_EV, JOB_Q

if TYPE_CHECKING:
    from services.a100worker.job.queues import Line, Lines
    from shared.bus import Bus
    from shared.image_store import CachedImageStore

_LOOK_EVERY_S = 1.0
_LOOK_AT_MOST = 8  # jobs in front of the next one may run elsewhere
log = logging.getLogger(__name__)


class LookAhead:
    """Fetches the inputs of the job that this worker would take next, without taking it: it stays everybody's."""

    def __init__(self, bus: Bus, pictures: CachedImageStore, lines: Lines) -> None:
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
                    for sha256 in work.submit.image_hashes().values():
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
            stored = await self._bus.first(JOB_Q, subjects.queue_entries_in(*line), after)
            if stored is None:
                break
            after = stored.seq
            job_id = subjects.parse_queue_entry(stored.subject).job_id
            if after == running or await self._bus.last(JOB_EV, subjects.event(job_id, "started")) is not None:
                continue
            try:
                return JobWork.model_validate_json(stored.data)
            except ValidationError:
                continue
        return None
