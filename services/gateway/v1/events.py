"""A job's events in the format of /v1: named, numbered by their stream sequence, resumable after each of them."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pydantic_core
from starlette.responses import Response

from services.gateway.http.sse import event_stream
from services.gateway.v1.job_views import image_of, progress_of
from shared.jobs import fold
from shared.messages import Done

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.core.jobs import Jobs
    from shared.messages import JobEvent, JobRecord


async def job_stream(jobs: Jobs, record: JobRecord, after: int, heartbeat_s: float) -> Response:
    """Stream the job's events after a sequence number until its terminal event.

    Respond 204 if the client has the terminal event: a browser's EventSource then stops reconnecting.
    Raises BrokerUnavailable.
    """
    if record.ended is None or after < record.last_seq:
        return event_stream(await _frames(jobs, record, after), heartbeat_s)
    return Response(status_code=204)


async def _frames(jobs: Jobs, record: JobRecord, after: int) -> AsyncIterator[dict[str, Any]]:
    if record.ended is None or await jobs.is_end_stored(record.job_id):
        return _stored_frames(jobs, record.job_id, after)
    return _only_frame(frame(record.last_seq, record.ended, record))  # the events have expired, the record has the end


async def _only_frame(event: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield event


async def _stored_frames(jobs: Jobs, job_id: str, after: int) -> AsyncIterator[dict[str, Any]]:
    record = None
    async with aclosing(jobs.follow(job_id, 0)) as events:  # from the first: progress is a sum over all events
        async for seq, event in events:
            record = fold(record, event, seq)
            if seq > after:
                yield frame(seq, event, record)


def frame(seq: int, event: JobEvent, record: JobRecord) -> dict[str, Any]:
    """Return one event in sse-starlette's form; `record` is the job's state after the event."""
    facts = event.model_dump(mode="json", exclude={"v", "type"})
    if isinstance(event, Done):
        facts["result"] = image_of(event.result).model_dump()
    facts |= {"status": record.state.value, "progress": progress_of(record)}
    return {"id": str(seq), "event": event.type, "data": pydantic_core.to_json(facts).decode()}
