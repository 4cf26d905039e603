"""What can be done with a job: submit it, find it, cancel it, wait for its end. All faces of the gateway use these."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING
from uuid import uuid4

from pydantic import ValidationError

from shared import subjects, tracing
from shared.errors import BadMessage, Conflict, JobCancelled, JobFailed, NotFound, Unavailable, WrongLastSequence
from shared.job_events import load_record
from shared.jobs import fold
from shared.messages import Cancelled, Done, Failed, JobClass, JobSubmit
from shared.topology import JOB_EV, JOB_LOG

if TYPE_CHECKING:
    from services.gateway.deps import Deps
    from shared.messages import JobRecord

log = logging.getLogger(__name__)


async def submit(
    deps: Deps, user: str, order: JobSubmit, job_class: JobClass = JobClass.INTERACTIVE, job_id: str | None = None
) -> str:
    """Log the job and return its id once the broker has it. Raises Busy, BrokerUnavailable."""
    job_id = job_id or str(uuid4())
    order = order.model_copy(update={"traceparent": tracing.current()})
    with deps.admission.place(user, job_id):
        await deps.bus.publish(subjects.submit(job_class, user, job_id), order, msg_id=job_id)
    deps.ownership.add_job(user, job_id)
    log.info("job.submitted", extra={"job_id": job_id, "task": order.task})
    return job_id


async def find(deps: Deps, user: str, job_id: str) -> JobRecord:
    """Return the state of the user's job. Raises NotFound, also for other users' jobs, and BrokerUnavailable."""
    try:
        theirs = await deps.ownership.owns_job(user, job_id)
        record = (deps.ended.get(job_id) or await load_record(deps.bus, job_id)) if theirs else None
    except BadMessage:
        record = None
    if record is None or record.user != user:
        raise NotFound("This job is unknown or has expired.")
    deps.ended.keep(record)
    return record


async def cancel(deps: Deps, user: str, job_id: str) -> bool:
    """End the job, whether it waits or runs; False if it had ended before. Raises NotFound, BrokerUnavailable."""
    record = await find(deps, user, job_id)
    if record.ended is not None:
        return False
    end = Cancelled(job_id=job_id, step=record.step, total_steps=record.total_steps)
    try:
        await deps.bus.publish_first(JOB_EV, subjects.end(job_id), end, msg_id=uuid4().hex)
    except WrongLastSequence:
        return False
    log.info("job.cancelled", extra={"job_id": job_id})
    return True


async def wait_ended(deps: Deps, user: str, job_id: str, patience_s: float) -> JobRecord:
    """Return the job's state when it has ended, or as it is when patience has. Raises as `find`, and Unavailable."""
    record = await find(deps, user, job_id)
    if record.ended is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s), aclosing(deps.feed.follow(job_id, record.last_seq)) as events:
                async for seq, event in events:
                    record = fold(record, event, seq)
                if record.ended is None:
                    raise Unavailable("The gateway is restarting, please try again in a moment.")
    return record


async def result(deps: Deps, user: str, job_id: str) -> tuple[JobRecord, Done]:
    """Wait for the job's result. Raises JobFailed, JobCancelled, Conflict if it still runs, and as `wait_ended`."""
    record = await wait_ended(deps, user, job_id, deps.settings.result_wait_s)
    return record, done_of(record)


def done_of(record: JobRecord) -> Done:
    """Return how the job ended well. Raises JobFailed, JobCancelled, Conflict if it has not ended."""
    match record.ended:
        case Done() as done:
            return done
        case Failed() as failed:
            raise JobFailed(failed.message)
        case Cancelled():
            raise JobCancelled
    raise Conflict("The job is still running.")


async def order_of(deps: Deps, record: JobRecord) -> JobSubmit | None:
    """Return what was asked for, or None if the log has forgotten it. Raises BrokerUnavailable."""
    logged = None if record.log_seq is None else await deps.bus.get(JOB_LOG, record.log_seq)
    try:
        return None if logged is None else JobSubmit.model_validate_json(logged.data)
    except ValidationError:
        return None
