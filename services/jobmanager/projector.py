"""Folds events into the bucket `jobs`, the view that listings and operators read."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from shared import jobs, subjects
from shared.bus import WrongLastSequence
from shared.deliveries import Delivery, consume
from shared.messages import Cancelled, Done, JobEvent, JobRecord, Preview, Progress, Queued, Started
from shared.topology import JOB_EV, JOB_LOG, JOB_Q, JOBS, PROJECTOR

if TYPE_CHECKING:
    from services.jobmanager.pace import Pace
    from shared.bus import Bus

_REMEMBERED = 4096
log = logging.getLogger(__name__)


class Projector:
    """Keeps one record for each job, written with the revision it was read at, so two projectors do no harm."""

    def __init__(self, bus: Bus, pace: Pace) -> None:
        self._bus = bus
        self._pace = pace
        self._records: OrderedDict[str, tuple[JobRecord, int]] = OrderedDict()  # with its revision in the bucket

    async def run(self) -> None:
        """Project for ever. Raises BrokerUnavailable."""
        async for delivery in consume(self._bus, JOB_EV, PROJECTOR):
            await self._settle(delivery)

    async def _settle(self, delivery: Delivery) -> None:
        event = jobs.parse_event(delivery.data)
        # Steps are read from the events themselves; a view that changed with each would write for nobody.
        if event is not None and not isinstance(event, Progress | Preview):
            while not await self._project(event, delivery.seq):
                self._records.pop(event.job_id, None)
            if isinstance(event, Cancelled):
                await self._bus.purge(JOB_Q, subjects.queue_entries_of(event.job_id))
        await delivery.ack_soon()

    async def _project(self, event: JobEvent, seq: int) -> bool:
        """Write the record with this event in it; False if somebody else wrote first."""
        before, revision = await self._read(event)
        record = jobs.fold(before, event, seq)
        if record is before:
            return True
        try:
            revision = await self._bus.publish(
                subjects.job_record(record.user, record.job_id), record, expect_last=revision
            )
        except WrongLastSequence:
            return False
        self._learn(event, record)
        self._records[record.job_id] = (record, revision)
        self._records.move_to_end(record.job_id)
        if len(self._records) > _REMEMBERED:
            self._records.popitem(last=False)
        return True

    def _learn(self, event: JobEvent, record: JobRecord) -> None:
        if isinstance(event, Started):
            self._pace.saw(event.worker)
        elif isinstance(event, Done) and record.task is not None:
            pixels = event.result.width * event.result.height
            self._pace.learn(record.task, pixels, record.total_steps or 1, event.duration_ms)

    async def _read(self, event: JobEvent) -> tuple[JobRecord | None, int]:
        known = self._records.get(event.job_id)
        if known is not None:
            return known
        stored = await self._bus.first(JOBS, subjects.job_record_anywhere(event.job_id))
        if stored is not None and stored.data:
            return JobRecord.model_validate_json(stored.data), stored.seq
        if isinstance(event, Queued):
            return None, 0
        logged = await self._bus.first(JOB_LOG, subjects.submits_of(event.job_id))
        return (None if logged is None else jobs.accepted(logged)), 0
