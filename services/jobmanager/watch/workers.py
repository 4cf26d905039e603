"""Reports the job of a lost worker long before its lease ends and another worker takes the job."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import job_events, subjects
from shared.errors import WrongLastSequence
from shared.jobs import is_end, parse_event
from shared.messages import JobState, Returned, Started, WorkerAbilities
from shared.reading import read

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage

_EVERY_S = 2.0  # as often as workers announce themselves
_MISSED = 3  # announcements: fewer, and a worker with a busy processor would count as lost
_FORGOTTEN = 30
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    """A job with the worker that runs it, and the looks since that worker named it."""

    worker: str
    missed: int = 0


class WorkerWatch:
    """Tracks the job of each worker. A job is lost if its worker is silent, or restarted without it.

    It counts looks, not seconds: after a freeze this process still has announcements to read.
    """

    def __init__(self, bus: Bus, max_deliver: int) -> None:
        """`max_deliver` are the attempts of a job."""
        self._bus = bus
        self._max_deliver = max_deliver
        self._connect = 0
        self._silent: dict[str, int] = {}  # looks since the last announcement of each worker
        self._held: dict[str, _Held] = {}

    async def run(self) -> None:
        """Look every two seconds until cancelled. Raises BrokerUnavailable."""
        self._reset_counts()
        subscribe = self._bus.subscribe
        async with (
            subscribe(subjects.WORKERS, self.note),
            subscribe(subjects.LIVE_STARTS, self.note_start),
            subscribe(subjects.LIVE_ENDS, self.note_end),
        ):
            while True:
                await asyncio.sleep(_EVERY_S)  # a missing announcement is no event
                await self.look()

    async def look(self) -> None:
        """Count an announcement as missed for each job, and report those with too many. Raises BrokerUnavailable."""
        await self._bus.ping()  # while a broker hangs, no announcement arrives
        if self._bus.connects != self._connect:
            self._reset_counts()
        self._silent = {name: looks + 1 for name, looks in self._silent.items() if looks < _FORGOTTEN}
        for job_id, held in list(self._held.items()):
            held.missed += 1
            if held.missed > _MISSED:  # one more than are missing: the first may still arrive
                await self._report(job_id, held)

    def note(self, stored: StoredMessage) -> None:
        """Note an announcement. One of a worker that stops ends the watch over its job."""
        abilities = read(WorkerAbilities, stored.data)
        if abilities.state == "stopped":
            self._silent.pop(abilities.worker, None)
            self._held = {job_id: held for job_id, held in self._held.items() if held.worker != abilities.worker}
            return
        self._silent[abilities.worker] = 0
        if abilities.job is not None:
            self._held[abilities.job] = _Held(abilities.worker)

    def note_start(self, stored: StoredMessage) -> None:
        """Note that a worker has a job: it may die before it announces itself again."""
        event = parse_event(stored)
        # A worker of an older release sends no announcements, so a missing one means nothing.
        if isinstance(event, Started) and event.worker in self._silent:
            self._held[event.job_id] = _Held(event.worker)

    def note_end(self, stored: StoredMessage) -> None:
        """Note that a job has ended."""
        if is_end(stored):
            self._held.pop(subjects.job_of_event(stored.subject), None)

    def _reset_counts(self) -> None:
        """Reset the missed announcements: after a restart of the broker the workers have to reconnect, too."""
        self._connect = self._bus.connects
        for held in self._held.values():
            held.missed = 0

    async def _report(self, job_id: str, held: _Held) -> None:
        """Return the job in the name of its worker, unless it was returned or the worker has named it meanwhile."""
        record = await job_events.load_record(self._bus, job_id)
        if self._held.get(job_id) is not held:
            return
        if record is not None and record.state is JobState.RUNNING and record.worker == held.worker:
            message = job_events.WORKER_LOST if record.attempt < self._max_deliver else None
            returned = Returned(
                job_id=job_id,
                worker=held.worker,
                attempt=record.attempt,
                reason=job_events.VANISHED,
                message=message,
            )
            await self._publish(returned)
        if self._held.get(job_id) is held:
            del self._held[job_id]

    async def _publish(self, returned: Returned) -> None:
        job_id, worker, attempt = returned.job_id, returned.worker, returned.attempt
        try:  # one id, so that only one of several job managers reports it
            await job_events.publish_event(self._bus, returned, msg_id=f"{job_id}.{worker}.{attempt}.lost")
        except WrongLastSequence:
            return
        log.warning("job.worker-lost", extra={"job_id": job_id, "worker": worker, "attempt": attempt})
