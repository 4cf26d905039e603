"""The state of a job, folded from its events. Pure functions; `shared/job_events.py` reads and publishes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shared import subjects, versions
from shared.errors import BadMessage
from shared.messages import (
    JOB_EVENT,
    Cancelled,
    Done,
    Failed,
    JobClass,
    JobEvent,
    JobRecord,
    JobState,
    JobSubmit,
    Preview,
    Progress,
    Queued,
    Returned,
    Started,
    Task,
)
from shared.reading import log_malformed, read_or_skip

if TYPE_CHECKING:
    from shared.bus import StoredMessage
    from shared.reading import Readable

_LARGEST_EVENT_BYTES = 256 * 1024  # a record holds the terminal event, and must fit into one message
_ENDED = {Done: JobState.DONE, Failed: JobState.FAILED, Cancelled: JobState.CANCELLED}
_FINISHED = {"phase": "processing", "fraction": 1.0, "message": None}  # the last steps may be missing in the view


def initial_record(stored: StoredMessage) -> JobRecord | None:
    """Return the state of a job that has no events yet; without a task if its submission is not valid.

    None if the subject of the submission is not valid.
    """
    try:
        address = subjects.parse_submission(stored.subject)
    except BadMessage as error:
        log_malformed(stored.subject, stored.seq, error.message)
        return None
    submission = read_or_skip(JobSubmit, stored)
    at = submission.submitted_at if submission else time.time()
    return JobRecord(
        job_id=address.job_id,
        user=address.user,
        state=JobState.QUEUED,
        task=submission.task if submission else None,
        job_class=JobClass(address.job_class),
        debug=submission.debug if submission else False,
        log_seq=stored.seq,
        total_steps=submission.steps if submission else None,
        created_at=at,
        updated_at=at,
        last_seq=0,
    )


def fold(record: JobRecord | None, event: JobEvent, seq: int) -> JobRecord:
    """Return the record with one more event applied; no event changes a job that has ended."""
    if record is None:
        record = _begin(event)
    if record.ended is not None or seq <= record.last_seq:
        return record
    is_stale = isinstance(event, Returned) and (event.worker, event.attempt) != (record.worker, record.attempt)
    changes = {} if is_stale else _changes(event)  # it is about a worker that lost the job to another one
    return record.model_copy(update={**changes, "updated_at": event.at, "last_seq": seq})


def _begin(event: JobEvent) -> JobRecord:
    return JobRecord(
        job_id=event.job_id,
        user=event.user if isinstance(event, Queued) else "unknown",
        state=JobState.QUEUED,
        created_at=event.at,
        updated_at=event.at,
        last_seq=0,
    )


def _changes(event: JobEvent) -> dict[str, object]:
    match event:
        case Queued():
            facts = event.model_dump(
                include={"user", "log_seq", "replay_of", "total_steps", "debug", "ahead", "eta_ms"}
            )
            return {**facts, "task": Task(event.task), "job_class": JobClass(event.job_class)}
        case Started():
            progress = {"phase": "loading", "step": None, "fraction": 0.0, "message": None, "ahead": None}
            facts = event.model_dump(include={"worker", "engine", "attempt"})
            return {"state": JobState.RUNNING, **facts, **progress}
        case Returned():
            progress = {"phase": None, "step": None, "fraction": 0.0, "message": event.message}
            return {"state": JobState.QUEUED, **progress}
        case Progress():
            facts = event.model_dump(include={"phase", "step", "fraction", "message", "eta_ms"})
            # Not compared with the attempt: after a lost lease only the terminal event stops a worker's progress.
            return {"state": JobState.RUNNING, **facts, **({"total_steps": event.total_steps} if event.step else {})}
        case Preview():
            return {}
        case Done() | Failed() | Cancelled():
            finished = _FINISHED if isinstance(event, Done) else {}
            return {"state": _ENDED[type(event)], "ended": event, "eta_ms": None, "ahead": None, **finished}


def is_end(message: Readable) -> bool:
    """Return whether a message on the subject of a job's end ends the job: not if it is malformed.

    One that only a newer release can read ends it.
    """
    event = parse_event(message)
    if event is None:
        return versions.is_newer(JOB_EVENT, message.data)
    return isinstance(event, Done | Failed | Cancelled) and event.job_id == subjects.job_of_event(message.subject)


def parse_event(message: Readable) -> JobEvent | None:
    """Return the event, or None for a message that is not valid: our services did not write it."""
    if len(message.data) > _LARGEST_EVENT_BYTES:
        log_malformed(message.subject, message.seq, "too large")
        return None
    return read_or_skip(JOB_EVENT, message)
