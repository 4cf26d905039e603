"""The state of all jobs of one class: waiting, open in JOB_Q, or running.

The board does no I/O. Its callers do, and an event may move any job between two calls, so every method also accepts
a job that has moved on or left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.jobmanager.durations import UNKNOWN_MS
from services.jobmanager.fair_queue import FairQueue

if TYPE_CHECKING:
    from shared.deliveries import Delivery
    from shared.messages import JobWork

_QUANTUM_MS = 1_000.0  # the turn of one owner; all other owners wait for its end


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that waits for its turn. Its submission stays unsettled in the log until JOB_Q holds the job."""

    work: JobWork
    delivery: Delivery
    expected_ms: float | None

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return self.work.job_id


class Board:
    """Holds each job in one place at most: it waits here, or it is open (handed to JOB_Q and not ended).

    A job that leaves the queue because of an event is `superseded`: its delivery must be settled.
    """

    def __init__(self) -> None:
        self._open: dict[str, JobWork] = {}
        self._unstarted: set[str] = set()  # those of the open jobs that no worker has started
        self.forget_waiting()

    def forget_waiting(self) -> None:
        """Forget all jobs that the log delivers again. Open jobs stay, because JOB_Q may have lost them."""
        self._waiting: FairQueue[WaitingJob] = FairQueue(_QUANTUM_MS)
        self._held: set[str] = set()  # waiting jobs with an announcement in flight
        self._publishing: set[str] = set()  # open jobs that JOB_Q may not hold yet
        self._superseded: list[WaitingJob] = []
        self.undelivered = 0  # submissions that the log still has to deliver, or that are being examined

    def __contains__(self, job_id: str) -> bool:
        """Return whether the job waits or is open."""
        return job_id in self._waiting or job_id in self._open

    # --- waiting jobs ---

    def add(self, job: WaitingJob) -> int | None:
        """Add a job, held until its announcement is stored. Return how many jobs are ahead of it.

        Return None if the job is waiting already.
        """
        if job.job_id in self._waiting:
            return None
        ahead = len(self._unstarted) + self._waiting.ahead_of_new(job.work.user)
        self._waiting.add(job.work.user, job.job_id, job.expected_ms or UNKNOWN_MS, job)
        self._held.add(job.job_id)
        return ahead

    def hold(self, job_id: str) -> bool:
        """Hold a waiting job while it is announced. Return False if it does not wait or is held already."""
        if job_id not in self._waiting or job_id in self._held:
            return False
        self._held.add(job_id)
        return True

    def release(self, job_id: str) -> None:
        """End the hold of a job: its announcement is stored."""
        self._held.discard(job_id)

    def take(self, capacity: int) -> WaitingJob | None:
        """Move the next job in turn to the open jobs and return it; None at `capacity` unstarted jobs.

        Also None while the next job is held: a worker could start it before its `queued` event is stored. The job is
        open before it is published, because a worker may start it before the broker acknowledges the publish.
        """
        if len(self._unstarted) >= capacity or self._waiting.next_id() in self._held:
            return None
        job = self._waiting.pop()
        if job is not None:
            self._open[job.job_id] = job.work
            self._unstarted.add(job.job_id)
            self._publishing.add(job.job_id)
        return job

    def places(self, limit: int) -> list[tuple[WaitingJob, int]]:
        """Return the first waiting jobs, each with the number of jobs ahead of it."""
        return [(job, len(self._unstarted) + place) for place, job in enumerate(self._waiting.in_turn(limit))]

    def waiting(self) -> list[WaitingJob]:
        """Return all waiting jobs in their approximate order."""
        return self._waiting.in_turn(len(self._waiting))

    def take_superseded(self) -> list[WaitingJob]:
        """Return the superseded jobs and forget them: the caller settles their deliveries."""
        superseded, self._superseded = self._superseded, []
        return superseded

    # --- open jobs ---

    def confirm(self, job_id: str) -> None:
        """Note that JOB_Q holds a taken job: if it disappears from JOB_Q later, it was lost."""
        self._publishing.discard(job_id)

    def refuse(self, job_id: str) -> None:
        """Forget a taken job that JOB_Q could not hold."""
        if job_id in self._publishing:
            self.remove(job_id)

    def start(self, job_id: str) -> None:
        """Note that a worker has started a job."""
        self._unstarted.discard(job_id)
        if (job := self._supersede(job_id)) is not None:
            self._open[job_id] = job.work

    def remove(self, job_id: str) -> None:
        """Remove a job that has ended or that the log no longer holds."""
        self._supersede(job_id)
        self._open.pop(job_id, None)
        self._unstarted.discard(job_id)
        self._publishing.discard(job_id)

    def adopt(self, work: JobWork, *, has_started: bool) -> None:
        """Add an open job that was found in JOB_Q: an earlier job manager or an operator put it there."""
        if work.job_id in self._open:
            return
        self._supersede(work.job_id)
        self._open[work.job_id] = work
        if not has_started:
            self._unstarted.add(work.job_id)

    def recall(self, work: JobWork) -> None:
        """Add an open job that was found by its events alone, unless the board knows it. JOB_Q may have lost it."""
        if work.job_id not in self._waiting:
            self._open.setdefault(work.job_id, work)

    def requeue(self, job_id: str) -> bool:
        """Count an open job as unstarted, before it is published again. Return False if it is not open any more."""
        if job_id not in self._open:
            return False
        self._unstarted.add(job_id)
        return True

    def is_open(self, job_id: str) -> bool:
        """Return whether a job was handed to JOB_Q and has not ended."""
        return job_id in self._open

    def is_queued(self, job_id: str) -> bool:
        """Return whether JOB_Q must hold a job: it is open, and its publish is not under way."""
        return job_id in self._open and job_id not in self._publishing

    def is_unstarted(self, job_id: str) -> bool:
        """Return whether an open job has not started yet."""
        return job_id in self._unstarted

    def expected_in_queue(self) -> dict[str, JobWork]:
        """Return the open jobs that JOB_Q must hold, by id. Take this before a listing of JOB_Q, not after it."""
        return {job_id: work for job_id, work in self._open.items() if self.is_queued(job_id)}

    # --- figures ---

    def without_worker(self) -> list[JobWork]:
        """Return the jobs that no worker has, as far as events have arrived."""
        return [self._open[job_id] for job_id in self._unstarted] + [job.work for job in self.waiting()]

    def running_count(self) -> int:
        """Return how many jobs a worker has."""
        return len(self._open) - len(self._unstarted)

    def _supersede(self, job_id: str) -> WaitingJob | None:
        self._held.discard(job_id)
        job = self._waiting.remove(job_id)
        if job is not None:
            self._superseded.append(job)
        return job
