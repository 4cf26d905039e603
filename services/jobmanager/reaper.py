"""Ends jobs that were delivered too often. Workers count the attempts of a job, the broker counts its deliveries."""

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
    from shared.bus import Bus, StoredMessage

log = logging.getLogger(__name__)


class Reaper:
    """Turns MAX_DELIVERIES advisories into dead letters. The job stays in JOB_Q until its dead letter is stored."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def run(self) -> None:
        """Reap until cancelled. Raises BrokerUnavailable."""
        async for deliveries in consume(self._bus, ADVISORY, REAPER):
            for delivery in deliveries:
                await self._settle(delivery)

    async def _settle(self, delivery: Delivery) -> None:
        advisory = json.loads(delivery.data)
        if datetime.fromisoformat(advisory["timestamp"]) < await self._bus.creation_time(JOB_Q):
            await delivery.ack()  # from a deleted JOB_Q: its sequence may belong to another job now
            return
        stored = await self._bus.get(JOB_Q, int(advisory["stream_seq"]))
        if stored is not None:
            await self._dead_letter(stored, int(advisory["deliveries"]))
            await self._bus.delete(JOB_Q, stored.seq)
        await delivery.ack()

    async def _dead_letter(self, stored: StoredMessage, count: int) -> None:
        try:
            work = JobWork.model_validate_json(stored.data)
        except ValidationError:
            log.exception("job.unreadable-in-queue")
            return
        error = TooManyAttempts()
        await dead_letter_job(self._bus, work.job_id, error, attempts=count, log_seq=work.log_seq, work=work)
