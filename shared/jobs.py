"""What the events of a job add up to: state is a fold of events. And how a job ends that cannot be run."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared import metrics, subjects
from shared.bus import PUBLISH_S
from shared.errors import WrongLastSequence
from shared.messages import (
    JOB_EVENT,
    Attempt,
    Cancelled,
    DeadLetter,
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
from shared.topology import JOB_EV, JOB_LOG, JOBS

if TYPE_CHECKING:
    from shared.bus import Bus, Stored

STOPPING = "stopping"  # the reason to return a job that is not the job's fault
_VANISHED = "vanished"
log = logging.getLogger(__name__)
_ENDED = {Done: JobState.DONE, Failed: JobState.FAILED, Cancelled: JobState.CANCELLED}


def accepted(stored: Stored) -> JobRecord:
    """Return the state of a job of which only the logged submit is known; one that cannot be read has no task."""
    address = subjects.parse_submit(stored.subject)
    try:
        submit = JobSubmit.model_validate_json(stored.data)
    except ValidationError:
        submit = None
    at = submit.submitted_at if submit else time.time()
    return JobRecord(
        job_id=address.job_id,
        user=address.user,
        state=JobState.QUEUED,
        task=submit.task if submit else None,
        job_class=JobClass(address.job_class),
        debug=submit.debug if submit else False,
        log_seq=stored.seq,
        total_steps=submit.steps if submit else None,
        created_at=at,
        updated_at=at,
        last_seq=0,
    )


def fold(record: JobRecord | None, event: JobEvent, seq: int) -> JobRecord:
    """Return the record with one more event in it; after a terminal event nothing changes any more."""
    if record is None:
        record = _begin(event)
    if record.ended is not None or seq <= record.last_seq:
        return record
    lost = isinstance(event, Returned) and (event.worker, event.attempt) != (record.worker, record.attempt)
    changes = {} if lost else _changes(event)  # who returns a job that another worker has by now changes nothing
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
            return {"state": JobState.QUEUED, "phase": None, "step": None, "fraction": 0.0, "message": None}
        case Progress():
            facts = event.model_dump(include={"phase", "step", "fraction", "message", "eta_ms"})
            # Overtaken by nothing: a worker that lost its lease is silenced by the terminal event only.
            return {"state": JobState.RUNNING, **facts, **({"total_steps": event.total_steps} if event.step else {})}
        case Preview():
            return {}
        case Done() | Failed() | Cancelled():
            return {"state": _ENDED[type(event)], "ended": event, "eta_ms": None, "ahead": None}


def parse_event(data: bytes) -> JobEvent | None:
    """Read an event, or return None: what we cannot read was not written by us and changes nothing."""
    try:
        return JOB_EVENT.validate_json(data)
    except ValidationError:
        return None


async def load(bus: Bus, job_id: str) -> JobRecord | None:
    """Fold a job's stored events; where they have expired, read the view. None if the job is unknown.

    Raises BrokerUnavailable; BadMessage if the id cannot be one.
    """
    history = await bus.history(JOB_EV, subjects.events_of(job_id))
    events = [(stored.seq, event) for stored in history if (event := parse_event(stored.data)) is not None]
    record: JobRecord | None = None
    if not events or not isinstance(events[0][1], Queued):
        record = await _from_log_or_view(bus, job_id)
    for seq, event in events:
        record = fold(record, event, seq)
    return record


async def _from_log_or_view(bus: Bus, job_id: str) -> JobRecord | None:
    viewed = await bus.first(JOBS, subjects.job_record_anywhere(job_id))
    if viewed is not None and viewed.data:
        return JobRecord.model_validate_json(viewed.data)
    logged = await bus.first(JOB_LOG, subjects.submits_of(job_id))
    return None if logged is None else accepted(logged)


async def tell(
    bus: Bus,
    event: JobEvent,
    *,
    msg_id: str | None = None,
    headers: dict[str, str] | None = None,
    deadline_s: float = PUBLISH_S,
) -> None:
    """Store what happens to a job that has not ended: nothing is heard of it after its end.

    Raises WrongLastSequence if it has ended, BrokerUnavailable.
    """
    await bus.publish(
        subjects.event(event.job_id, event.type),
        event,
        msg_id=msg_id,
        headers=headers,
        deadline_s=deadline_s,
        expect_last=0,
        expect_on=subjects.end(event.job_id),
    )


async def attempts(bus: Bus, job_id: str) -> list[Attempt]:
    """Return each try at a job and how it ended, as far as its events tell. Raises BrokerUnavailable."""
    tried: list[Attempt] = []
    for stored in await bus.history(JOB_EV, subjects.events_of(job_id)):
        match parse_event(stored.data):
            case Started() as event:
                tried.append(Attempt(number=event.attempt, worker=event.worker, started_at=event.at, outcome=_VANISHED))
            case Returned() as event:
                mine = [(attempt.worker, attempt.number) == (event.worker, event.attempt) for attempt in tried]
                for place in [place for place, is_mine in enumerate(mine) if is_mine][-1:]:
                    end = {"ended_at": event.at, "outcome": event.reason}
                    tried[place] = tried[place].model_copy(update=end)
            case _:
                pass
    return tried


def spent(tried: list[Attempt]) -> int:
    """Count the attempts that the job has used up: not those whose worker had to stop."""
    return sum(attempt.outcome != STOPPING for attempt in tried)


async def bury(bus: Bus, letter: DeadLetter) -> None:
    """Keep the dead letter, with the history of the job's attempts, then end the job. Both steps may be repeated."""
    metrics.DEAD_LETTERS.labels(letter.reason).inc()
    letter = letter.model_copy(update={"history": await attempts(bus, letter.job_id)})
    await bus.publish(subjects.dead(letter.reason, letter.job_id), letter, msg_id=f"{letter.job_id}.dead")
    failed = Failed(job_id=letter.job_id, code=letter.reason, message=letter.message, attempt=letter.attempts)
    try:
        await bus.publish_first(JOB_EV, subjects.end(letter.job_id), failed, msg_id=f"{letter.job_id}.dead.end")
    except WrongLastSequence:
        log.info("job.ended-already", extra={"job_id": letter.job_id})
    else:
        log.info("job.ended", extra={"job_id": letter.job_id, "state": failed.type})
