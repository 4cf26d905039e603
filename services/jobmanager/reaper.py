"""Ends jobs that were delivered too often. Workers count the attempts of a job, the broker counts its deliveries."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel

from shared.deliveries import Delivery, consume
from shared.errors import TooManyAttempts
from shared.job_events import dead_letter_job
from shared.messages import Count, JobWork
from shared.reading import read_or_skip
from shared.topology import ADVISORY, JOB_Q, REAPER

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage

log = logging.getLogger(__name__)


class _Advisory(BaseModel):
    """The fields that matter here of the broker's MAX_DELIVERIES advisory."""

    timestamp: AwareDatetime
    stream_seq: Count
    deliveries: Count


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
        advisory = read_or_skip(_Advisory, delivery)
        # Skip an advisory about a deleted JOB_Q, too: its sequence may belong to another job now.
        if advisory is not None and advisory.timestamp >= await self._bus.creation_time(JOB_Q):
            stored = await self._bus.get(JOB_Q, advisory.stream_seq)
            if stored is not None:
                await self._dead_letter(stored, advisory.deliveries)
                await self._bus.delete(JOB_Q, stored.seq)
        await delivery.ack()

    async def _dead_letter(self, stored: StoredMessage, count: int) -> None:
        work = read_or_skip(JobWork, stored)
        if work is None:
            return
        error = TooManyAttempts()
        await dead_letter_job(self._bus, work.job_id, error, attempts=count, log_seq=work.log_seq, work=work)
