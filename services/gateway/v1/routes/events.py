"""/v1/jobs/{job_id}/events: a job, as it happens."""

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from services.gateway.deps import CurrentOwner, InjectedDeps
from services.gateway.v1 import examples
from services.gateway.v1.events import job_stream
from services.gateway.v1.openapi_responses import by_name, can_fail

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], generate_unique_id_function=by_name)
_STREAM = {"text/event-stream": {"schema": {"type": "string"}, "example": examples.EVENTS}}
# A browser's EventSource never reconnects after an error response, so wait for the broker after a start.
_CONNECT_TIMEOUT_S = 10.0
_RESUME = "The `id` of the last event you have; what came after it follows."


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Events named queued, started, returned, progress, preview, done, failed and cancelled; "
            "the answer ends after one of the last three.",
            "content": _STREAM,
        },
        204: {"description": "You have seen the end."},
        **can_fail(404, 422, 503),
    },
)
async def follow_job(
    job_id: str,
    deps: InjectedDeps,
    user: CurrentOwner,
    last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, description=_RESUME)] = None,
    first_after: Annotated[int, Query(alias="last_event_id", ge=0, description="The same, for a first visit.")] = 0,
) -> Response:
    """Tell all that happens to a job as server-sent events, from the beginning or from where you were."""
    # A browser that reconnects sends the header, and the address still has the query it began with.
    after = first_after if last_event_id is None else last_event_id
    with suppress(TimeoutError):
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await deps.bus.up.wait()
    record = await deps.jobs.find(user, job_id)
    return await job_stream(deps.jobs, record, after, deps.settings.heartbeat_s)
