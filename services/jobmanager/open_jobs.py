"""Jobs that have begun their way and not ended, found by their events alone: for what nothing else remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared import subjects
from shared.jobs import parse_event
from shared.messages import JobSubmit, JobWork, Queued
from shared.topology import JOB_EV, JOB_LOG

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.messages import JobClass


async def find(bus: Bus, job_class: JobClass) -> list[JobWork]:
    """Return the jobs of a class that were queued within the life of their events. Raises BrokerUnavailable."""
    begun = {subjects.job_of_event(subject) for subject in await bus.subjects_in(JOB_EV, subjects.EVERY_QUEUED_EVENT)}
    ended = {subjects.job_of_event(subject) for subject in await bus.subjects_in(JOB_EV, subjects.EVERY_END)}
    found = [await _work(bus, job_id, job_class) for job_id in sorted(begun - ended)]
    return [work for work in found if work is not None]


async def _work(bus: Bus, job_id: str, job_class: JobClass) -> JobWork | None:
    """Make a job's entry in the queue again; None if it is of another class, or the log has forgotten it."""
    stored = await bus.last(JOB_EV, subjects.event(job_id, "queued"))
    event = None if stored is None else parse_event(stored.data)
    if not isinstance(event, Queued) or event.job_class is not job_class:
        return None
    logged = await bus.get(JOB_LOG, event.log_seq)
    try:
        submit = None if logged is None else JobSubmit.model_validate_json(logged.data)
    except ValidationError:
        submit = None
    if submit is None:
        return None
    return JobWork(
        job_id=job_id,
        user=event.user,
        job_class=job_class,
        log_seq=event.log_seq,
        replay_of=event.replay_of,
        submit=submit,
    )
