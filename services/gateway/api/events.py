"""A job's states as server-sent events for the deployed client.

Its parser reads `data:` lines and comments only, each followed by a blank line, with LF line ends. The end of the body
must follow the terminal event at once: the client then fetches the result.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from services.gateway.api.job_views import status_of
from services.gateway.http.sse import event_stream
from shared.jobs import fold

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.responses import Response

    from services.gateway.core.jobs import Jobs
    from shared.messages import JobRecord


def job_stream(jobs: Jobs, record: JobRecord, heartbeat_s: float) -> Response:
    """Stream the job's state, now and after each change, until its terminal state."""
    return event_stream(_frames(jobs, record), heartbeat_s)


async def _frames(jobs: Jobs, record: JobRecord) -> AsyncIterator[bytes]:
    sent = frame(record)
    yield sent
    if record.ended is not None:
        return
    async with aclosing(jobs.follow(record.job_id, record.last_seq)) as events:
        async for seq, event in events:
            record = fold(record, event, seq)
            latest = frame(record)
            if latest != sent:  # the client estimates the time left from the gaps between steps: repeat none
                sent = latest
                yield latest


def frame(record: JobRecord) -> bytes:
    """Return the job's state as one event."""
    return b"data: " + status_of(record).model_dump_json().encode() + b"\n\n"
