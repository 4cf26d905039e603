"""The fold of a job's events: with any events in any order, the record stays a valid summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import subjects
from shared.bus import StoredMessage
from shared.jobs import fold, initial_record, parse_event
from shared.messages import (
    Cancelled,
    Done,
    Failed,
    ImageRef,
    JobClass,
    JobRecord,
    JobState,
    Preview,
    Progress,
    Queued,
    Returned,
    Started,
    Task,
)

if TYPE_CHECKING:
    from shared.messages import JobEvent

SHA = "ab" * 32
RESULT = ImageRef(bucket="results", sha256=SHA, content_type="image/png", width=4, height=3, size_bytes=9)
TERMINAL = (Done, Failed, Cancelled)
QUEUED = Queued(
    job_id="j1", at=1.0, user="u1", task=Task.REMOVAL, job_class=JobClass.BATCH, log_seq=7, total_steps=15, ahead=2
)
STARTED = Started(job_id="j1", at=2.0, worker="w1", engine="scripted", attempt=1)
PROGRESS = Progress(job_id="j1", at=3.0, phase="processing", step=5, total_steps=10, fraction=0.5, message="Halfway.")
RETURNED = Returned(job_id="j1", at=3.5, worker="w1", attempt=1, reason="stopping")
DONE = Done(
    job_id="j1", at=4.0, worker="w1", engine="scripted", attempt=1, result=RESULT, duration_ms=9, seed=4,
    changed_outside_px=0,
)  # fmt: skip
CANCELLED = Cancelled(job_id="j1", at=4.0)

moments = st.floats(min_value=0, max_value=2e9)
events = st.one_of(
    st.builds(lambda at: QUEUED.model_copy(update={"at": at}), moments),
    st.builds(lambda at, n: STARTED.model_copy(update={"at": at, "attempt": n}), moments, st.integers(1, 9)),
    st.builds(
        lambda at, step, total: Progress(
            job_id="j1", at=at, phase="processing", step=step, total_steps=total, fraction=step / total
        ),
        moments, st.integers(1, 50), st.integers(50, 99),
    ),
    st.builds(lambda at: Progress(job_id="j1", at=at, phase="loading", fraction=0.1), moments),
    st.builds(lambda at: Preview(job_id="j1", at=at, step=1, jpeg_base64="/9j/"), moments),
    st.builds(
        lambda at, n: Returned(job_id="j1", at=at, worker="w1", attempt=n, reason="stopping"),
        moments, st.integers(1, 9),
    ),
    st.builds(lambda at: DONE.model_copy(update={"at": at}), moments),
    st.builds(lambda at: Failed(job_id="j1", at=at, code="busy", message="No."), moments),
    st.builds(lambda at: Cancelled(job_id="j1", at=at), moments),
)  # fmt: skip
histories = st.lists(events, min_size=1, max_size=12)


def fold_all(history: list[JobEvent], record: JobRecord | None = None, first_seq: int = 1) -> JobRecord:
    """Fold a history that is stored under the sequences from `first_seq` on."""
    for seq, event in enumerate(history, first_seq):
        record = fold(record, event, seq)
    assert record is not None
    return record


@given(histories)
def test_any_event_may_come_first(history: list[JobEvent]) -> None:
    """Older events may have expired: a record can be made from whatever is left."""
    record = fold_all(history)

    assert record.job_id == "j1"
    assert JobRecord.model_validate_json(record.model_dump_json(exclude_none=True)) == record


@given(histories, events, histories)
def test_after_a_terminal_event_nothing_changes(before: list[JobEvent], end: JobEvent, after: list[JobEvent]) -> None:
    """The first end stands, also if a worker that was not stopped in time reports another one."""
    ended = fold_all([*before, end if isinstance(end, TERMINAL) else CANCELLED])

    assert fold_all(after, ended, first_seq=100) == ended


@given(histories)
def test_the_first_terminal_event_is_the_end(history: list[JobEvent]) -> None:
    """A record has ended exactly when its history holds a terminal event, and with the first of them."""
    record = fold_all(history)
    ends = [event for event in history if isinstance(event, TERMINAL)]

    assert record.ended == (ends[0] if ends else None)
    assert (record.state in {JobState.DONE, JobState.FAILED, JobState.CANCELLED}) == bool(ends)


@given(histories, st.data())
def test_an_event_that_comes_again_changes_nothing(history: list[JobEvent], data: st.DataObject) -> None:
    """Deliveries repeat; each sequence counts once."""
    record = fold_all(history)
    seq = data.draw(st.integers(1, len(history)))

    assert fold(record, history[seq - 1], seq) is record


@given(histories, st.data())
def test_a_history_may_be_folded_in_parts(history: list[JobEvent], data: st.DataObject) -> None:
    """A record that was stored on the way, and events that overlap with it, give the same as all events at once."""
    cut = data.draw(st.integers(1, len(history)))
    overlap = data.draw(st.integers(1, cut))
    stored = JobRecord.model_validate_json(fold_all(history[:cut]).model_dump_json(exclude_none=True))

    assert fold_all(history[overlap - 1 :], stored, first_seq=overlap) == fold_all(history)


@given(histories)
def test_the_record_names_its_newest_event(history: list[JobEvent]) -> None:
    """A reader can go on from there."""
    ends = [seq for seq, event in enumerate(history, 1) if isinstance(event, TERMINAL)]
    newest = min([*ends, len(history)])
    record = fold_all(history)

    assert record.last_seq == newest
    assert record.updated_at == history[newest - 1].at


def test_a_queued_job_knows_what_it_is() -> None:
    """The record has the owner, the task and the jobs ahead."""
    record = fold_all([QUEUED])

    assert record.state is JobState.QUEUED
    assert (record.user, record.task, record.job_class, record.log_seq) == ("u1", Task.REMOVAL, JobClass.BATCH, 7)
    assert (record.total_steps, record.ahead, record.created_at) == (15, 2, 1.0)


def test_a_running_job_knows_how_far_it_is() -> None:
    """The record has the worker, the step and the message; no job is ahead."""
    record = fold_all([QUEUED, STARTED, PROGRESS])

    assert record.state is JobState.RUNNING
    assert (record.worker, record.engine, record.attempt, record.ahead) == ("w1", "scripted", 1, None)
    assert (record.phase, record.step, record.total_steps, record.fraction) == ("processing", 5, 10, 0.5)
    assert record.message == "Halfway."


def test_a_second_attempt_begins_anew() -> None:
    """The progress of the dead worker is forgotten."""
    record = fold_all([QUEUED, STARTED, PROGRESS, STARTED.model_copy(update={"worker": "w2", "attempt": 2})])

    assert (record.worker, record.attempt) == ("w2", 2)
    assert (record.step, record.fraction, record.message) == (None, 0.0, None)


def test_a_job_that_was_handed_back_waits_again() -> None:
    """As if nothing had been done."""
    record = fold_all([QUEUED, STARTED, PROGRESS, RETURNED])

    assert (record.state, record.step, record.fraction, record.message) == (JobState.QUEUED, None, 0.0, None)


def test_a_lost_worker_is_reported_until_the_next_one_begins() -> None:
    """The job waits with the sentence; a frozen worker that goes on takes it back too."""
    lost = RETURNED.model_copy(update={"reason": "vanished", "message": "The worker was lost."})
    waiting = fold_all([QUEUED, STARTED, PROGRESS, lost])
    after = [fold_all([QUEUED, STARTED, lost, next_one]) for next_one in (STARTED, PROGRESS)]

    assert (waiting.state, waiting.message) == (JobState.QUEUED, "The worker was lost.")
    assert [(record.state, record.message) for record in after] == [
        (JobState.RUNNING, None),
        (JobState.RUNNING, PROGRESS.message),
    ]


def test_who_has_lost_a_job_cannot_hand_it_back() -> None:
    """A frozen worker wakes up when another one has begun, in the next attempt."""
    record = fold_all([QUEUED, STARTED, STARTED.model_copy(update={"worker": "w2", "attempt": 2}), RETURNED])

    assert (record.state, record.worker) == (JobState.RUNNING, "w2")


@pytest.mark.parametrize(
    ("end", "state"),
    [(DONE, JobState.DONE), (Failed(job_id="j1", code="x", message="No."), JobState.FAILED),
     (CANCELLED, JobState.CANCELLED)],
    ids=lambda value: getattr(value, "type", value),
)  # fmt: skip
def test_each_end_has_its_state(end: Done | Failed | Cancelled, state: JobState) -> None:
    """The three ways a job can end."""
    record = fold_all([QUEUED, STARTED, end])

    assert record.state is state
    assert record.ended == end


def test_a_done_job_is_finished_although_its_steps_are_missing() -> None:
    """The view may have missed them; it must not show a job that still loads its model."""
    record = fold(fold(fold(None, QUEUED, 1), STARTED, 2), DONE, 3)

    assert (record.phase, record.fraction, record.message) == ("processing", 1.0, None)


def test_a_logged_job_is_queued_before_its_first_event() -> None:
    """As soon as the submit is stored the job exists."""
    body = b'{"task": "insertion", "image": "%s", "steps": 20, "debug": true, "submitted_at": 5.0}' % SHA.encode()
    record = initial_record(StoredMessage(9, subjects.submission("interactive", "u1", "j1"), body))

    assert record is not None
    assert (record.job_id, record.user, record.state) == ("j1", "u1", JobState.QUEUED)
    assert (record.task, record.total_steps, record.debug, record.created_at) == (Task.INSERTION, 20, True, 5.0)
    assert (record.log_seq, record.last_seq) == (9, 0)


def test_a_logged_job_that_cannot_be_read_has_no_task() -> None:
    """It exists all the same, until the job manager has buried it."""
    record = initial_record(StoredMessage(9, subjects.submission("batch", "u1", "j1"), b"{"))

    assert record is not None
    assert (record.job_id, record.state, record.task) == ("j1", JobState.QUEUED, None)


def test_a_submission_on_an_invalid_subject_has_no_state() -> None:
    """Its subject names no job, so no job exists."""
    assert initial_record(StoredMessage(9, "job.submit.a100.batch.ü.j1", b"{}")) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"type": "paused", "job_id": "j1"}', b'{"type": "cancelled"}'])
def test_what_is_no_event_is_ignored(data: bytes) -> None:
    """Something written by hand on an event's subject must not stop its readers."""
    assert parse_event(StoredMessage(1, "job.ev.j1.end", data)) is None
