"""Ends the jobs that went round too often: workers count a job's attempts, the broker counts every delivery."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared.deliveries import Delivery, consume
from shared.errors import TooManyAttempts
from shared.job_events import dead_letter_job
from shared.messages import JobWork
from shared.topology import ADVISORY, JOB_Q, REAPER

if TYPE_CHECKING:
    from shared.bus import Bus

log = logging.getLogger(__name__)


class Reaper:
    """Turns MAX_DELIVERIES advisories into dead letters; the job itself stays in JOB_Q until this has happened."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def run(self) -> None:
        """Reap for ever. Raises BrokerUnavailable."""
        async for deliveries in consume(self._bus, ADVISORY, REAPER):
            for delivery in deliveries:
                await self._settle(delivery)

    async def _settle(self, delivery: Delivery) -> None:
        advisory = json.loads(delivery.data)
        if datetime.fromisoformat(advisory["timestamp"]) < await self._bus.creation_time(JOB_Q):
            await delivery.ack()  # of a queue that is no more; under its sequence another job waits now
            return
        stored = await self._bus.get(JOB_Q, int(advisory["stream_seq"]))
        if stored is not None:
            try:
                work = JobWork.model_validate_json(stored.data)
            except ValidationError:
                log.exception("job.unreadable-in-queue")
            else:
                deliveries = int(advisory["deliveries"])
                await dead_letter_job(
                    self._bus,
                    work.job_id,
                    TooManyAttempts(),
                    attempts=deliveries,
                    log_seq=work.log_seq,
                    work=work,
                )
                log.error("job.buried", extra={"job_id": work.job_id, "deliveries": deliveries})
            await self._bus.delete(JOB_Q, stored.seq)
        await delivery.ack()
