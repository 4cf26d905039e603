"""From an order of /v1 to a job that is submitted once, however often the order is sent under one key.

The job's id follows from the user and the key, so the broker's log alone tells, to any replica, whether it is known.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID, uuid4, uuid5

from pydantic import ValidationError

from services.gateway.core import jobs
from shared import subjects
from shared.errors import BadInput, ImageNotFound
from shared.messages import JobSubmit, Task
from shared.topology import JOB_LOG

if TYPE_CHECKING:
    from services.gateway.deps import Deps
    from services.gateway.v1.job_views import JobSubmission
    from shared.bus import Stored

_KEYS = UUID("5d0c3f0a-6b1e-4e0b-9a77-0d6f1f3c2b58")
_SEEDS = 2**31
_NOT_COMPARED = {"submitted_at", "traceparent"}


async def submit(deps: Deps, user: str, key: str | None, order: JobSubmission) -> tuple[str, bool]:
    """Submit the order, unless that has been done under this key; return the job's id and whether it is new.

    Raises BadInput, also if the key belongs to another order, and ImageNotFound, Busy, BrokerUnavailable.
    """
    job_id = str(uuid4() if key is None else uuid5(_KEYS, f"{user}/{key}"))
    wanted = to_submit(order, job_id)
    if key is not None and await _known(deps, job_id, wanted, order):
        return job_id, False
    await _check(deps, user, wanted)
    await jobs.submit(deps, user, wanted, order.job_class, job_id)
    if key is not None:
        # The broker drops the second of two with one id; if that was ours, the first must be the same order.
        await _known(deps, job_id, wanted, order)
    return job_id, True


def to_submit(order: JobSubmission, job_id: str) -> JobSubmit:
    """Return the order as the bus has it; a seed that is not given follows from the job's id. Raises BadInput."""
    if order.task is not Task.WHITE_BALANCE and order.mask is None:
        raise BadInput(f"The field mask is missing: it says where the {order.task} is.")
    if order.task is Task.INSERTION and order.reference is None:
        raise BadInput("The field reference is missing: it shows what to insert.")
    fields = order.model_dump(exclude={"job_class"}, exclude_none=True)
    return JobSubmit.model_validate({"seed": UUID(job_id).int % _SEEDS, **fields})


async def _known(deps: Deps, job_id: str, wanted: JobSubmit, order: JobSubmission) -> bool:
    logged = await deps.bus.first(JOB_LOG, subjects.submits_of(job_id))
    if logged is not None and not _same(logged, wanted, order):
        raise BadInput("The Idempotency-Key belongs to another order; use a new key for a new order.")
    return logged is not None


def _same(logged: Stored, wanted: JobSubmit, order: JobSubmission) -> bool:
    try:
        known = JobSubmit.model_validate_json(logged.data)
    except ValidationError:
        return False
    same_class = subjects.parse_submit(logged.subject).job_class == order.job_class
    return same_class and known.model_dump(exclude=_NOT_COMPARED) == wanted.model_dump(exclude=_NOT_COMPARED)


async def _check(deps: Deps, user: str, wanted: JobSubmit) -> None:
    await require(deps, user, **wanted.pictures())
    if wanted.task is not Task.WHITE_BALANCE and wanted.mask and await deps.uploads.marks_nothing(wanted.mask):
        raise BadInput("The field mask names an empty mask; mark the region to edit.")


async def require(deps: Deps, user: str, **pictures: str | None) -> None:
    """Check that the user has all these pictures. Raises ImageNotFound with the field's name, BrokerUnavailable."""
    named = {field: sha256 for field, sha256 in pictures.items() if sha256 is not None}
    found = await asyncio.gather(*(deps.uploads.has(user, sha256) for sha256 in named.values()))
    for field, is_there in zip(named, found, strict=True):
        if not is_there:
            raise ImageNotFound(f"The field {field} names a picture that is not there; upload it first.")
