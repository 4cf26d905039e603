"""A job's events as /v1 tells them: named, numbered by their place in the stream, and resumable from any of them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import pydantic_core
from starlette.responses import Response

from services.gateway.core import jobs
from services.gateway.http.sse import event_stream
from services.gateway.v1.job_views import progress_of
from services.gateway.v1.schemas import Picture
from shared import subjects
from shared.jobs import fold
from shared.messages import Done
from shared.topology import JOB_EV

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.deps import Deps
    from shared.messages import JobEvent, JobRecord

# A browser's EventSource that is refused gives up for good, so a gateway that has just started lets it wait instead.
_PATIENCE_S = 10.0


async def job_events(deps: Deps, user: str, job_id: str, after: int) -> Response:
    """Answer with all events behind a sequence number, as they come, until the job's end.

    If that end has been told already, the answer is 204, which makes a browser's EventSource stop asking. Raises
    NotFound, BrokerUnavailable.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            await deps.bus.up.wait()
    record = await jobs.find(deps, user, job_id)
    if record.ended is not None:
        if after >= record.last_seq:
            return Response(status_code=204)
        if await deps.bus.last(JOB_EV, subjects.end(record.job_id)) is None:  # expired, but the view knows the end
            return event_stream(_only(frame(record.last_seq, record.ended, record)), deps.settings.heartbeat_s)
    return event_stream(_frames(deps, record.job_id, after), deps.settings.heartbeat_s)


async def _only(event: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield event


async def _frames(deps: Deps, job_id: str, after: int) -> AsyncIterator[dict[str, Any]]:
    record = None
    async with aclosing(deps.feed.follow(job_id, 0)) as events:  # from the start: progress is a sum of events
        async for seq, event in events:
            record = fold(record, event, seq)
            if seq > after:
                yield frame(seq, event, record)


def frame(seq: int, event: JobEvent, record: JobRecord) -> dict[str, Any]:
    """Write one event, as sse-starlette takes it; the record is the job's state with the event in it."""
    facts = event.model_dump(mode="json", exclude={"v", "type"})
    if isinstance(event, Done):
        facts["result"] = Picture.of(event.result).model_dump()
    facts |= {"status": record.state.value, "progress": progress_of(record)}
    return {"id": str(seq), "event": event.type, "data": pydantic_core.to_json(facts).decode()}
