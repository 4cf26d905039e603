"""Publishes the places of waiting jobs as `queued` events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.jobmanager.submissions import context_of_work
from shared import job_events, tracing
from shared.errors import WrongLastSequence
from shared.messages import Queued

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.jobmanager.board import Board, WaitingJob
    from services.jobmanager.durations import DurationEstimator
    from shared.bus import Bus

_UPDATED_PLACES = 20  # only the first jobs get updates: an update writes one event per job
_UPDATE_EVERY_S = 1.0


class Announcer:
    """Announces each waiting job once when it arrives, and the first ones again whenever their places change."""

    def __init__(self, bus: Bus, board: Board, estimator: DurationEstimator, on_release: Callable[[], None]) -> None:
        """`on_release` is called when a job may be taken from the board."""
        self._bus = bus
        self._board = board
        self._estimator = estimator
        self._on_release = on_release
        self._changed = asyncio.Event()
        self._announced: dict[str, int] = {}

    def note_change(self) -> None:
        """Request a comparison of the places at the next update."""
        self._changed.set()

    async def run(self) -> None:
        """Announce changed places until cancelled. Raises BrokerUnavailable."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            for job, ahead in self._board.places(_UPDATED_PLACES):
                # Without the hold, a worker could start the job before this event. The user would then see the job
                # go back to the queue.
                if self._announced.get(job.job_id) != ahead and self._board.hold(job.job_id):
                    await self.announce(job, ahead)
            self._announced = {job_id: ahead for job_id, ahead in self._announced.items() if job_id in self._board}
            await asyncio.sleep(_UPDATE_EVERY_S)

    async def announce(self, job: WaitingJob, ahead: int, *, msg_id: str | None = None) -> None:
        """Publish the place of a held job, then release it; a job that has ended leaves the board.

        Raises BrokerUnavailable. The job then stays held, so that nothing can take it before its event is stored.
        """
        with tracing.span("job.announce", parent=context_of_work(job.work)):
            try:
                await job_events.publish_event(self._bus, self._event(job, ahead), msg_id=msg_id)
            except WrongLastSequence:
                self._board.remove(job.job_id)
        self._announced[job.job_id] = ahead
        self._board.release(job.job_id)
        self._on_release()

    def _event(self, job: WaitingJob, ahead: int) -> Queued:
        work = job.work
        rounds = ahead // self._estimator.worker_count() + 1
        return Queued(
            job_id=work.job_id,
            user=work.user,
            task=work.submit.task,
            job_class=work.job_class,
            log_seq=work.log_seq,
            replay_of=work.replay_of,
            total_steps=work.submit.steps,
            debug=work.submit.debug,
            ahead=ahead,
            eta_ms=None if job.expected_ms is None else round(rounds * job.expected_ms),
            ignored_fields=work.submit.unknown_fields() or None,
        )
