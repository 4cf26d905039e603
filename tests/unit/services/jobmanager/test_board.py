"""The board of jobs: one test for each promise that the dispatcher relies on between two of its awaits."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from services.jobmanager.board import Board, WaitingJob
from shared.messages import JobClass, JobSubmit, JobWork, Task

if TYPE_CHECKING:
    from shared.deliveries import Delivery

PHOTO = "0" * 64


def work(job_id: str, owner: str = "u1") -> JobWork:
    submission = JobSubmit(task=Task.WHITE_BALANCE, image=PHOTO)
    return JobWork(job_id=job_id, user=owner, job_class=JobClass.INTERACTIVE, log_seq=1, submit=submission)


def job(job_id: str, owner: str = "u1") -> WaitingJob:
    """Make a waiting job; the board never uses its delivery."""
    return WaitingJob(work(job_id, owner), cast("Delivery", None), expected_ms=None)


def add_announced(board: Board, *job_ids: str) -> None:
    """Add jobs with stored announcements."""
    for job_id in job_ids:
        board.add(job(job_id))
        board.release(job_id)


def take_all(board: Board, capacity: int = 100) -> list[str]:
    """Take jobs until the board returns none."""
    ids = []
    while (found := board.take(capacity)) is not None:
        ids.append(found.job_id)
    return ids


def take_superseded(board: Board) -> list[str]:
    return [each.job_id for each in board.take_superseded()]


@pytest.fixture
def board() -> Board:
    return Board()


# --- from waiting to open -----------------------------------------------------------------------------------------


def test_a_job_is_not_taken_before_its_announcement_is_stored(board: Board) -> None:
    """A worker could start it, and its `queued` event would come after its `started` event."""
    board.add(job("j1"))
    assert take_all(board) == []

    board.release("j1")

    assert take_all(board) == ["j1"]


def test_no_job_overtakes_one_that_is_being_announced(board: Board) -> None:
    """The order of the queue is fair; a slow publish must not change it."""
    board.add(job("j1"))
    add_announced(board, "j2")

    assert take_all(board) == []


def test_a_job_is_not_taken_while_its_place_is_announced(board: Board) -> None:
    """A place that is published after the start would show a running job as waiting."""
    add_announced(board, "j1")

    assert board.hold("j1")
    assert take_all(board) == []
    board.release("j1")
    assert take_all(board) == ["j1"]


def test_only_one_announcement_of_a_job_is_in_flight(board: Board) -> None:
    """Otherwise the end of the first would release the job during the second."""
    board.add(job("j1"))

    assert not board.hold("j1")


def test_a_job_that_has_left_is_not_held(board: Board) -> None:
    """Its place is of no interest any more."""
    add_announced(board, "j1")
    take_all(board)

    assert not board.hold("j1")


@pytest.mark.parametrize("capacity", [1, 3])
def test_no_more_jobs_are_taken_than_workers_can_start(board: Board, capacity: int) -> None:
    """The order in JOB_Q is final, so the rest waits here."""
    add_announced(board, *(f"j{number}" for number in range(5)))

    assert len(take_all(board, capacity)) == capacity
    board.start("j0")
    assert len(take_all(board, capacity)) == 1


def test_a_running_job_needs_no_capacity(board: Board) -> None:
    """A start makes way for the next job."""
    add_announced(board, "j1", "j2")
    assert take_all(board, 1) == ["j1"]

    board.start("j1")

    assert (board.running_count(), take_all(board, 1)) == (1, ["j2"])


def test_a_start_may_arrive_before_the_publish_is_acknowledged(board: Board) -> None:
    """The job then runs; the late confirmation does not make it wait again."""
    add_announced(board, "j1")
    take_all(board)
    board.start("j1")
    board.confirm("j1")

    assert (board.running_count(), board.without_worker()) == (1, [])


def test_an_end_may_arrive_before_the_publish_is_acknowledged(board: Board) -> None:
    """The late confirmation does not bring the job back."""
    add_announced(board, "j1")
    take_all(board)
    board.remove("j1")
    board.confirm("j1")

    assert (board.is_open("j1"), board.expected_in_queue()) == (False, {})


def test_a_job_that_the_queue_refuses_leaves_the_board(board: Board) -> None:
    """The log delivers it again; meanwhile it holds no capacity."""
    add_announced(board, "j1", "j2")
    assert take_all(board, 1) == ["j1"]

    board.refuse("j1")

    assert not board.is_open("j1")
    assert take_all(board, 1) == ["j2"]


def test_a_refusal_does_not_forget_a_job_that_was_queued_before(board: Board) -> None:
    """A submission that is delivered again may be refused while the job runs."""
    board.adopt(work("j1"), has_started=True)
    board.refuse("j1")

    assert board.is_open("j1")


# --- events -------------------------------------------------------------------------------------------------------


def test_a_job_that_ends_while_it_waits_is_settled_once(board: Board) -> None:
    """It is never taken, and its delivery is handed out exactly once."""
    add_announced(board, "j1", "j2")
    board.remove("j1")
    board.remove("j1")

    assert take_superseded(board) == ["j1"]
    assert take_superseded(board) == []
    assert take_all(board) == ["j2"]


def test_a_job_that_ends_during_its_announcement_is_settled(board: Board) -> None:
    """The release that follows changes nothing."""
    board.add(job("j1"))
    board.remove("j1")
    board.release("j1")

    assert take_superseded(board) == ["j1"]
    assert take_all(board) == []


def test_a_job_that_starts_while_it_waits_runs(board: Board) -> None:
    """An earlier job manager queued it and could not settle its submission."""
    add_announced(board, "j1")
    board.start("j1")

    assert take_superseded(board) == ["j1"]
    assert (board.is_open("j1"), board.running_count(), take_all(board)) == (True, 1, [])


def test_events_of_unknown_jobs_change_nothing(board: Board) -> None:
    """Jobs of the other class have events on the same subjects."""
    board.start("other")
    board.remove("other")
    board.confirm("other")
    board.release("other")

    assert (board.running_count(), board.without_worker(), take_superseded(board)) == (0, [], [])


# --- reconciliation -----------------------------------------------------------------------------------------------


def test_a_job_with_a_publish_in_flight_is_not_missed_in_the_queue(board: Board) -> None:
    """A listing of JOB_Q may be older than the publish."""
    add_announced(board, "j1")
    take_all(board)
    assert board.expected_in_queue() == {}

    board.confirm("j1")

    assert list(board.expected_in_queue()) == ["j1"]


def test_a_job_in_the_queue_is_adopted_once(board: Board) -> None:
    """The state of an open job on the board is newer than the listing."""
    board.adopt(work("j1"), has_started=True)
    board.adopt(work("j1"), has_started=False)

    assert (board.running_count(), board.without_worker()) == (1, [])


def test_an_adopted_job_does_not_wait_as_well(board: Board) -> None:
    """An earlier job manager queued it and could not settle its submission."""
    add_announced(board, "j1")
    board.adopt(work("j1"), has_started=False)

    assert take_superseded(board) == ["j1"]
    assert [each.job_id for each in board.without_worker()] == ["j1"]


def test_a_recalled_job_is_expected_in_the_queue(board: Board) -> None:
    """The next comparison restores it if JOB_Q lacks it; until then it holds no capacity."""
    board.recall(work("j1"))

    assert list(board.expected_in_queue()) == ["j1"]
    assert board.without_worker() == []


def test_a_waiting_job_is_not_recalled(board: Board) -> None:
    """It is not lost, and keeps its fair place."""
    add_announced(board, "j1")
    board.recall(work("j1"))

    assert not board.is_open("j1")
    assert take_all(board) == ["j1"]


def test_a_job_that_has_ended_is_not_queued_again(board: Board) -> None:
    """The end may arrive while the reconciler reads the record of the job."""
    board.adopt(work("j1"), has_started=False)
    board.remove("j1")

    assert not board.requeue("j1")
    assert board.without_worker() == []


def test_a_job_that_is_queued_again_counts_as_unstarted(board: Board) -> None:
    """Before it is published, because a worker may start it at once."""
    board.adopt(work("j1"), has_started=True)

    assert board.requeue("j1")
    assert board.is_unstarted("j1")


# --- restarts -----------------------------------------------------------------------------------------------------


def test_a_restart_forgets_what_the_log_delivers_again(board: Board) -> None:
    """Waiting jobs, their holds and deliveries of the old connection."""
    add_announced(board, "j1", "j2")
    board.remove("j1")
    board.add(job("j3"))
    board.undelivered = 7

    board.forget_waiting()

    assert (board.waiting(), take_superseded(board), board.undelivered) == ([], [], 0)
    add_announced(board, "j3")
    assert take_all(board) == ["j3"]


def test_a_restart_keeps_what_was_handed_to_the_queue(board: Board) -> None:
    """An interrupted publish may be lost, so JOB_Q is then expected to hold its job."""
    add_announced(board, "j1")
    take_all(board)

    board.forget_waiting()

    assert list(board.expected_in_queue()) == ["j1"]


# --- figures ------------------------------------------------------------------------------------------------------


def test_a_new_job_counts_the_unstarted_and_the_waiting_ones_ahead(board: Board) -> None:
    """Running jobs are not ahead of it."""
    add_announced(board, "j1", "j2", "j3")
    take_all(board, 2)
    board.start("j1")

    assert board.add(job("j4")) == 2
    assert [(each.job_id, ahead) for each, ahead in board.places(20)] == [("j3", 1), ("j4", 2)]
    assert len(board.places(1)) == 1


def test_a_waiting_job_that_is_delivered_again_keeps_its_place(board: Board) -> None:
    """The log delivers it again after a day."""
    add_announced(board, "j1", "j2")

    assert board.add(job("j1")) is None
    assert take_all(board) == ["j1", "j2"]
