"""/v1/jobs/{job_id}/events: a job's events as they happen."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import BeforeValidator, Field

from services.gateway.deps import CurrentPrincipal, InjectedDeps
from services.gateway.v1 import examples
from services.gateway.v1.event_schemas import names_by_event
from services.gateway.v1.events import job_stream
from services.gateway.v1.openapi_responses import can_fail, function_name

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], generate_unique_id_function=function_name)
_STREAM = {
    "text/event-stream": {"schema": {"type": "string"}, "example": examples.EVENTS, "x-event-data": names_by_event()}
}
_LAST_EVENT_ID = "The `id` of the last event you received. The stream continues after it."
LastEventId = Annotated[
    Annotated[int, Field(ge=0)] | None,
    BeforeValidator(lambda sent: sent or None),  # a client without an event may send an empty header
    Header(alias="Last-Event-ID", description=_LAST_EVENT_ID),
]


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Events with the names queued, started, returned, progress, preview, done, failed and "
            "cancelled. The stream ends after one of the last three. The data of each event is JSON; `x-event-data` "
            "names its schema.",
            "content": _STREAM,
        },
        204: {"description": "There are no more events: you received the last one."},
        **can_fail(404, 422, 429, 503),
    },
)
async def follow_job(
    job_id: str,
    deps: InjectedDeps,
    principal: CurrentPrincipal,
    last_event_id: LastEventId = None,
    first_after: Annotated[
        int, Query(alias="last_event_id", ge=0, description="The same, for the first request of an EventSource.")
    ] = 0,
) -> Response:
    """Stream all events of a job as server-sent events, from the first event or after the given one."""
    # A browser that reconnects sends the header; its URL still has the query of the first request.
    after = first_after if last_event_id is None else last_event_id
    # A browser's EventSource never reconnects after an error response, so wait for the broker after a start.
    record = await deps.jobs.with_broker(partial(deps.jobs.find, principal.owner, job_id))
    return await job_stream(deps.jobs, record, after, deps.reader(principal))
