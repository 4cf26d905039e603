"""The jobs of one edit: submitted together, waited for in order, cancelled together if their client goes away."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from services.gateway.error_responses import openai_error
from services.gateway.http.exception_handlers import STATUS
from services.gateway.v1.submissions import submit
from shared.errors import ArtMancerError, JobCancelled, from_code
from shared.messages import Cancelled, Done, Failed, JobClass, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.core.jobs import Jobs
    from services.gateway.core.uploads import Uploads
    from services.gateway.v1.schemas import JobSubmission
    from shared.messages import ImageRef, Terminal

_BAD_REQUEST, _SERVER_ERROR, _UNPROCESSABLE = 400, 500, 422
_CANCELLED = "The edit was cancelled."


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one job, or the status and the error of its failure. Without a job, there was nothing to edit."""

    job_id: str | None = None
    result: ImageRef | None = None
    status: int = 200
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The jobs of one request, in order. With an idempotency key they run on after a disconnect."""

    owner: str
    job_ids: Sequence[str]
    outlives_client: bool

    async def cancel(self, jobs: Jobs) -> None:
        """Cancel the jobs that have not ended, unless they outlive their client."""
        if self.outlives_client:
            return
        for job_id in self.job_ids:
            with contextlib.suppress(ArtMancerError):
                await jobs.cancel(self.owner, job_id)

    async def wait(self, jobs: Jobs, timeout_s: float) -> list[Outcome]:
        """Wait for all jobs, and for the broker if it is away, and return their outcomes in order.

        Raises TimeoutError, Stopping, BrokerUnavailable.
        """
        outcomes = []
        now = asyncio.get_running_loop().time
        deadline = now() + timeout_s
        for job_id in self.job_ids:
            left_s = max(0.0, deadline - now())
            record = await jobs.with_broker(partial(jobs.wait_ended, self.owner, job_id, left_s))
            if record.ended is None:
                raise TimeoutError
            outcomes.append(outcome_of(job_id, record.ended))
        return outcomes


async def submit_batch(
    jobs: Jobs, uploads: Uploads, owner: str, key: str | None, submission: JobSubmission, count: int
) -> Batch:
    """Submit `count` jobs that differ in their seed. Raises BadInput, Busy, BrokerUnavailable.

    After an error those that were submitted are cancelled; with a key they go on, for the client's next try.

    Several jobs have the class `batch`: single edits of other people come first.
    """
    job_class = JobClass.INTERACTIVE if count == 1 else JobClass.BATCH
    job_ids: list[str] = []
    try:
        for number in range(count):
            variant = int(number > 0 and submission.task is Task.REMOVAL)  # an engine without seeds fills another way
            wanted = submission.model_copy(update={"job_class": job_class, "variant": variant})
            job_id, _ = await submit(jobs, uploads, owner, key and f"{key}/{number}", wanted)
            job_ids.append(job_id)
    except BaseException:
        await Batch(owner, job_ids, outlives_client=key is not None).cancel(jobs)
        raise
    return Batch(owner, job_ids, outlives_client=key is not None)


def outcome_of(job_id: str, ended: Terminal) -> Outcome:
    """Return the outcome of a job that has ended."""
    match ended:
        case Done() as done:
            return Outcome(job_id, done.result)
        case Failed() as failed:
            return failure_of(job_id, from_code(failed.code, failed.message))
        case Cancelled():
            return failure_of(job_id, JobCancelled(_CANCELLED))


def failure_of(job_id: str | None, error: ArtMancerError) -> Outcome:
    """Return the outcome of a job without a result: 400 if the request is at fault, 500 if the engine is."""
    status = STATUS.get(error.code, _SERVER_ERROR)
    status = _BAD_REQUEST if status == _UNPROCESSABLE else status
    return Outcome(job_id, None, status, openai_error(status, error.message, error.code))
