"""Folds events into the bucket `jobs`, the view that listings and operators read."""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import aclosing
from typing import TYPE_CHECKING

from shared import jobs, subjects
from shared.deliveries import Delivery, consume, redeliver_from, redeliver_unsettled
from shared.errors import WrongLastSequence
from shared.messages import Cancelled, Done, JobEvent, JobRecord, Preview, Progress, Queued, Started
from shared.topology import JOB_EV, JOB_LOG, JOB_Q, JOBS, PROJECTOR

if TYPE_CHECKING:
    from services.jobmanager.pace import Pace
    from shared.bus import Bus

_REMEMBERED = 4096
_FIRST = 1
log = logging.getLogger(__name__)


class Projector:
    """Keeps one record for each job, written with the revision it was read at, so two projectors do no harm."""

    def __init__(self, bus: Bus, pace: Pace) -> None:
        self._bus = bus
        self._pace = pace
        self._records: OrderedDict[str, tuple[JobRecord, int]] = OrderedDict()  # with its revision in the bucket
        self._newest = 0  # revision in the bucket
        self._expected = 0  # sequence of the next event; 0: any
        self._again_from = 0  # sequence to go back to; 0: stay

    async def run(self) -> None:
        """Project for ever. Raises BrokerUnavailable."""
        self._again_from = _FIRST if await self._bus.first(JOBS, subjects.ALL_RECORDS) is None else 0
        while True:
            await self._begin()
            async with aclosing(consume(self._bus, JOB_EV, PROJECTOR)) as arriving:
                async for delivery in arriving:
                    await self._settle(delivery)
                    if self._again_from:
                        break

    async def _begin(self) -> None:
        """Have the events come in order, from where the view is known to be whole."""
        if self._again_from:
            log.info("jobs.view-goes-back", extra={"seq": self._again_from})
            await redeliver_from(self._bus, JOB_EV, PROJECTOR, self._again_from)
        else:
            await redeliver_unsettled(self._bus, JOB_EV, PROJECTOR)
        self._records.clear()
        self._newest = self._again_from = self._expected = 0

    async def _settle(self, delivery: Delivery) -> None:
        if 0 < self._expected < delivery.seq:
            # What lies between was sent to a connection that is no more; folded after this event it would be ignored.
            self._again_from = self._expected
            return
        self._expected = max(self._expected, delivery.seq + 1)
        event = jobs.parse_event(delivery.data)
        # Steps are read from the events themselves; a view that changed with each would write for nobody.
        if event is not None and not isinstance(event, Progress | Preview):
            while not await self._project(event, delivery.seq):
                self._records.pop(event.job_id, None)
            if isinstance(event, Cancelled):
                await self._bus.purge(JOB_Q, subjects.queue_entries_of(event.job_id))
        if not self._again_from:
            await delivery.ack_soon()

    async def _project(self, event: JobEvent, seq: int) -> bool:
        """Write the record with this event in it; False if somebody else wrote first."""
        before, revision = await self._read(event, seq)
        record = jobs.fold(before, event, seq)
        if record is before:
            return True
        try:
            revision = await self._bus.publish(
                subjects.job_record(record.user, record.job_id), record, expect_last=revision
            )
        except WrongLastSequence:
            return False
        if revision < self._newest:
            self._again_from = _FIRST  # the bucket counts from one again: it is another one
        self._newest = revision
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

    async def _read(self, event: JobEvent, seq: int) -> tuple[JobRecord | None, int]:
        known = self._records.get(event.job_id)
        if known is not None:
            return known
        stored = await self._bus.first(JOBS, subjects.job_record_anywhere(event.job_id))
        if stored is not None and stored.data:
            return JobRecord.model_validate_json(stored.data), stored.seq
        revision = 0 if stored is None else stored.seq  # `nats kv del` leaves an empty value
        return (None if isinstance(event, Queued) else await self._refold(event.job_id, seq)), revision

    async def _refold(self, job_id: str, until: int) -> JobRecord | None:
        """Make a record anew of the events before a sequence, where there is none or it was lost."""
        logged = await self._bus.first(JOB_LOG, subjects.submits_of(job_id))
        record = None if logged is None else jobs.accepted(logged)
        for stored in await self._bus.history(JOB_EV, subjects.events_of(job_id)):
            event = jobs.parse_event(stored.data)
            if event is not None and stored.seq < until and not isinstance(event, Progress | Preview):
                record = jobs.fold(record, event, stored.seq)
        return record
