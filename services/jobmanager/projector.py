"""Folds events into the bucket `jobs`, the view that listings and operators read."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from cachetools import LRUCache

from services.jobmanager import metrics
from shared import jobs, subjects, versions
from shared.deliveries import Delivery, consume, redeliver_from, redeliver_unsettled
from shared.errors import WrongLastSequence
from shared.messages import JOB_EVENT, Cancelled, Done, JobEvent, JobRecord, Preview, Progress, Queued, Started
from shared.reading import read_or_skip
from shared.topology import JOB_EV, JOB_LOG, JOB_Q, JOBS, PROJECTOR

if TYPE_CHECKING:
    from services.jobmanager.durations import DurationEstimator
    from shared.bus import Bus

_CACHED, _BATCH = 4096, 500
_LINGER_S = 0.05  # so that the events of a short job become one write; readers of one job read its events, not the view
_FIRST = 1
_SHARED_S = 60.0  # after a sign of another projector, and after a start; longer than its lease
log = logging.getLogger(__name__)


class Projector:
    """Writes one record for each job, with the revision that it was read at.

    Two projectors, as during an update, are safe: each receives a part of the events, and reads the other's events
    itself.
    """

    def __init__(self, bus: Bus, estimator: DurationEstimator) -> None:
        self._bus = bus
        self._estimator = estimator
        self._records: LRUCache[str, tuple[JobRecord, int]] = LRUCache(_CACHED)  # each with its revision
        self._steps: LRUCache[str, tuple[JobEvent, int]] = LRUCache(_CACHED)  # the newest step of each job
        self._newest = 0  # the highest revision written
        self._last: Delivery | None = None
        self._reset_to = 0  # the sequence of JOB_EV to read again from; 0: none
        self._is_cut = False  # whether events went to a closed connection
        self._connects = 0
        self._shared_until = 0.0  # monotonic: the projector of another job manager reads events too
        self._past_until = 0  # the last sequence of JOB_EV when this reading began

    async def run(self) -> None:
        """Project until cancelled. Raises BrokerUnavailable."""
        is_empty = await self._bus.first(JOBS, subjects.ALL_RECORDS) is None
        is_lost = is_empty and await self._bus.first(JOB_EV, subjects.ALL_EVENTS) is not None
        self._reset_to = _FIRST if is_lost else 0
        while True:
            await self._begin()
            async with aclosing(consume(self._bus, JOB_EV, PROJECTOR, batch=_BATCH, linger_s=_LINGER_S)) as arriving:
                async for arrived in arriving:
                    await self._settle(arrived)
                    if self._reset_to or self._is_cut:
                        break

    async def _begin(self) -> None:
        """Reset the consumer, so that events arrive in order from the last complete state of the view."""
        self._past_until = await self._bus.last_sequence(JOB_EV)
        if self._reset_to:
            log.info("jobs.view-reset", extra={"seq": self._reset_to})
            await redeliver_from(self._bus, JOB_EV, PROJECTOR, self._reset_to)
        else:
            await redeliver_unsettled(self._bus, JOB_EV, PROJECTOR)
        self._connects, self._is_cut = self._bus.connects, False
        self._shared_until = time.monotonic() + _SHARED_S
        self._records.clear()
        self._steps.clear()
        self._newest, self._reset_to = await self._bus.last_sequence(JOBS), 0
        self._last = None

    async def _settle(self, arrived: list[Delivery]) -> None:
        """Fold the events: one write for each job, and all jobs side by side."""
        in_order = self._take_until_gap(arrived)
        events = [jobs.parse_event(delivery) for delivery in in_order]
        events_by_job: dict[str, list[tuple[JobEvent, int]]] = {}
        for event, delivery in zip(events, in_order, strict=True):
            # Readers take steps from the events themselves, so a write for each step would be wasted. The newest one
            # is written together with the next event.
            if isinstance(event, Progress):
                self._steps[event.job_id] = event, delivery.seq
            elif event is not None and not isinstance(event, Preview):
                step = self._steps.pop(event.job_id, None)
                new = [(event, delivery.seq)] if step is None else [step, (event, delivery.seq)]
                events_by_job.setdefault(event.job_id, []).extend(new)
        newest = self._newest
        async with asyncio.TaskGroup() as group:
            for job_id, found in events_by_job.items():
                group.create_task(self._project(job_id, found, newest), name=f"project.{job_id}")
        if not self._reset_to:
            for event, delivery in zip(events, in_order, strict=True):
                if event is None and versions.is_newer(JOB_EVENT, delivery.data):
                    await delivery.retry(versions.HAND_BACK_S)  # for a projector of that release
                else:
                    await delivery.ack_nowait()

    def _take_until_gap(self, arrived: list[Delivery]) -> list[Delivery]:
        for place, delivery in enumerate(arrived):
            if self._last is not None and delivery.consumer_seq != self._last.consumer_seq + 1:
                if self._bus.connects != self._connects:
                    self._is_cut = True  # a fold would ignore the missing events after this one
                    return arrived[:place]
                # Another projector got them. A reset would take its unsettled events away.
                self._shared_until = time.monotonic() + _SHARED_S
            self._last = delivery
        return arrived

    async def _project(self, job_id: str, events: list[tuple[JobEvent, int]], newest: int) -> None:
        is_new = isinstance(events[0][0], Queued)  # a guess: if it is wrong, the first write fails
        while not await self._write(job_id, events, newest, is_new=is_new):
            self._records.pop(job_id, None)
            is_new = False
        for event, _ in events:
            if isinstance(event, Cancelled):
                await self._bus.purge(JOB_Q, subjects.queue_entries_of(job_id))

    async def _write(self, job_id: str, events: list[tuple[JobEvent, int]], newest: int, *, is_new: bool) -> bool:
        """Write the record with these events. Return False if another revision is stored than the cached one."""
        is_shared = time.monotonic() < self._shared_until
        known = None if is_shared else self._records.get(job_id)
        before, revision = known or ((None, 0) if is_new else await self._read(job_id, *events[0]))
        record = await self._catch_up(before, job_id, events[-1][1]) if is_shared else before
        for event, seq in events:
            record = jobs.fold(record, event, seq)
        if record is None or record is before:
            return True
        key = subjects.job_record(record.user, record.job_id)
        if revision is None:
            replaced = await self._bus.last(JOBS, key)
            revision = 0 if replaced is None else replaced.seq
        try:
            revision = await self._bus.publish(key, record, expect_last=revision)
        except WrongLastSequence:
            return False
        if revision <= newest:
            self._reset_to = _FIRST  # a new bucket counts revisions from one
        self._newest = max(self._newest, revision)
        self._records[job_id] = (record, revision)
        for event, seq in events:
            self._estimate_from(event, record, seq)
            if before is None or seq > before.last_seq:
                metrics.count(event, record)
        return True

    async def _catch_up(self, record: JobRecord | None, job_id: str, until: int) -> JobRecord | None:
        """Fold the events before a sequence that another projector has and may not have written."""
        for stored in await self._bus.history(JOB_EV, subjects.events_of(job_id)):
            event = jobs.parse_event(stored)
            if event is not None and stored.seq < until:
                record = jobs.fold(record, event, stored.seq)
        return record

    def _estimate_from(self, event: JobEvent, record: JobRecord, seq: int) -> None:
        if isinstance(event, Started | Done) and seq > self._past_until:  # its time is by the worker's clock
            self._estimator.see_worker(event.worker)
        if isinstance(event, Done) and record.task is not None:
            pixels = event.result.width * event.result.height
            self._estimator.record(record.task, pixels, record.total_steps or 1, event.duration_ms)

    async def _read(self, job_id: str, event: JobEvent, seq: int) -> tuple[JobRecord | None, int | None]:
        """Return the stored record with its revision, or else the events before a sequence, folded, and None."""
        stored = await self._bus.first(JOBS, subjects.job_record_anywhere(job_id))
        record = read_or_skip(JobRecord, stored)
        # An operator may have stored a record under another key, where no revision would match.
        if (
            record is not None
            and stored is not None
            and stored.subject == subjects.job_record(record.user, record.job_id)
        ):
            return record, stored.seq
        return (None if isinstance(event, Queued) else await self._refold(job_id, seq)), None

    async def _refold(self, job_id: str, until: int) -> JobRecord | None:
        """Fold the events before a sequence into a new record, for a job without one."""
        logged = await self._bus.first(JOB_LOG, subjects.submissions_of(job_id))
        record = None if logged is None else jobs.initial_record(logged)
        for stored in await self._bus.history(JOB_EV, subjects.events_of(job_id)):
            event = jobs.parse_event(stored)
            if event is not None and stored.seq < until and not isinstance(event, Progress | Preview):
                record = jobs.fold(record, event, stored.seq)
        return record
