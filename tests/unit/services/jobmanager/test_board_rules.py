"""The board under any sequence of calls: no job is in two places, and each delivery is handed out exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.jobmanager.board import Board, WaitingJob
from shared.messages import JobClass, JobSubmit, JobWork, Task

if TYPE_CHECKING:
    from shared.deliveries import Delivery

IDS = [f"j{number}" for number in range(4)]
JOB_IDS = st.sampled_from(IDS)
OWNERS = st.sampled_from(["u1", "u2"])


def make_job(job_id: str, owner: str, log_seq: int = 0) -> WaitingJob:
    submission = JobSubmit(task=Task.WHITE_BALANCE, image="0" * 64)
    work = JobWork(job_id=job_id, user=owner, job_class=JobClass.BATCH, log_seq=log_seq, submit=submission)
    return WaitingJob(work, cast("Delivery", None), expected_ms=None)  # the board never uses a delivery


class BoardCalls(RuleBasedStateMachine):
    """Calls the board as the dispatcher, the announcer, the reconciler and events do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Board()
        self.deliveries = 0
        self.unsettled: set[int] = set()  # deliveries that the board has taken and not given back
        self.unannounced: set[str] = set()

    @rule(job_id=JOB_IDS, owner=OWNERS)
    def admit(self, job_id: str, owner: str) -> None:
        """Add a submission; the dispatcher does not add open jobs."""
        if not self.board.is_open(job_id):
            self.deliveries += 1
            waits_already = job_id in self._waiting_ids()
            is_new = self.board.add(make_job(job_id, owner, self.deliveries)) is not None
            assert is_new != waits_already
            if is_new:
                self.unsettled.add(self.deliveries)
                self.unannounced.add(job_id)

    @rule(job_id=JOB_IDS)
    def announce_place(self, job_id: str) -> None:
        """Begin to publish a place."""
        if self.board.hold(job_id):
            assert job_id not in self.unannounced
            self.unannounced.add(job_id)

    @rule(job_id=JOB_IDS)
    def release(self, job_id: str) -> None:
        """Store an announcement."""
        self.board.release(job_id)
        self.unannounced.discard(job_id)

    @rule()
    def release_all(self) -> None:
        """Store the last announcement of a batch."""
        for job_id in sorted(self.unannounced):
            self.board.release(job_id)
        self.unannounced.clear()

    @rule(capacity=st.integers(1, 3))
    def take(self, capacity: int) -> None:
        """Take a job; it must be announced, and there must be capacity."""
        unstarted = len(self.board.without_worker()) - len(self.board.waiting())
        job = self.board.take(capacity)
        if job is not None:
            assert unstarted < capacity
            assert job.job_id not in self.unannounced
            assert self.board.is_unstarted(job.job_id)
            assert job.job_id not in self.board.expected_in_queue()
            self.unsettled.remove(job.work.log_seq)

    @rule()
    def settle(self) -> None:
        """Superseded jobs are handed out; then only waiting jobs have unsettled deliveries."""
        for job in self.board.take_superseded():
            self.unsettled.remove(job.work.log_seq)
        assert {job.work.log_seq for job in self.board.waiting()} == self.unsettled

    @rule(job_id=JOB_IDS)
    def confirm(self, job_id: str) -> None:
        """Acknowledge a publish."""
        self.board.confirm(job_id)

    @rule(job_id=JOB_IDS)
    def refuse(self, job_id: str) -> None:
        """Refuse a publish."""
        self.board.refuse(job_id)

    @rule(job_id=JOB_IDS)
    def start(self, job_id: str) -> None:
        """Start a job."""
        self.board.start(job_id)
        assert not self.board.is_unstarted(job_id)
        self.unannounced.discard(job_id)

    @rule(job_id=JOB_IDS)
    def end(self, job_id: str) -> None:
        """End a job."""
        self.board.remove(job_id)
        assert not self.board.is_open(job_id)
        self.unannounced.discard(job_id)

    @rule(job_id=JOB_IDS, owner=OWNERS, has_started=st.booleans())
    def adopt(self, job_id: str, owner: str, has_started: bool) -> None:  # noqa: FBT001 (drawn by name)
        """Find a job in JOB_Q by a comparison."""
        self.board.adopt(make_job(job_id, owner).work, has_started=has_started)
        assert self.board.is_open(job_id)
        self.unannounced.discard(job_id)

    @rule(job_id=JOB_IDS, owner=OWNERS)
    def recall(self, job_id: str, owner: str) -> None:
        """Find a job by its events."""
        self.board.recall(make_job(job_id, owner).work)

    @rule(job_id=JOB_IDS)
    def requeue(self, job_id: str) -> None:
        """Queue a job again by a comparison."""
        assert self.board.requeue(job_id) == self.board.is_open(job_id)

    @rule()
    def restart(self) -> None:
        """Reconnect; the log delivers unsettled submissions again."""
        was_open = {job_id for job_id in IDS if self.board.is_open(job_id)}
        self.board.forget_waiting()
        self.unsettled.clear()
        self.unannounced.clear()
        assert set(self.board.expected_in_queue()) == was_open

    @invariant()
    def no_job_is_in_two_places(self) -> None:
        """Check that a job waits or is open, and that an unstarted one is open."""
        waiting = self._waiting_ids()
        is_open = {job_id for job_id in IDS if self.board.is_open(job_id)}
        unstarted = {job_id for job_id in IDS if self.board.is_unstarted(job_id)}
        assert not waiting & is_open
        assert unstarted <= is_open
        assert set(self.board.expected_in_queue()) <= is_open
        assert len(self.board.without_worker()) == len(waiting) + len(unstarted)
        assert self.board.running_count() == len(is_open - unstarted)

    @invariant()
    def no_waiting_job_is_settled(self) -> None:
        """Its submission comes back if the job manager dies now."""
        assert {job.work.log_seq for job in self.board.waiting()} <= self.unsettled

    def _waiting_ids(self) -> set[str]:
        return {job.job_id for job in self.board.waiting()}


TestBoardCalls = BoardCalls.TestCase
TestBoardCalls.settings = settings(max_examples=80, stateful_step_count=50)
