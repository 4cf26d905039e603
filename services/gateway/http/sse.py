"""Server-sent events, and a job as a stream of them in the only form that the deployed client's parser understands.

That is: `data:` lines and comments, nothing else, each closed by a blank line, LF only, and the end of the body right
after the terminal event, because that end is what makes the client fetch the result.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from sse_starlette import EventSourceResponse, ServerSentEvent

from services.gateway.api.job_views import status_of
from shared.jobs import fold

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.gateway.core.feed import Feed
    from shared.messages import JobRecord

_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


class EventStream(EventSourceResponse):
    """Ends when its events do. Whoever makes those sees to it that they end when the server stops."""

    async def _listen_for_exit_signal_with_grace(self) -> None:
        # The library would look for a uvicorn with its own signal handlers, twice a second, in a task it never ends.
        await asyncio.Event().wait()


def job_stream(feed: Feed, record: JobRecord, heartbeat_s: float) -> EventStream:
    """Answer with the job's state now and at each change, until its end."""
    return event_stream(_frames(feed, record), heartbeat_s)


def event_stream(frames: AsyncIterator[bytes | dict[str, Any]], heartbeat_s: float) -> EventStream:
    """Answer with frames, as bytes or as sse-starlette takes them, and with a comment in each long silence."""
    return EventStream(
        frames,
        headers=_HEADERS,
        sep="\n",
        ping=heartbeat_s,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
    )


async def _frames(feed: Feed, record: JobRecord) -> AsyncIterator[bytes]:
    sent = frame(record)
    yield sent
    if record.ended is not None:
        return
    async with aclosing(feed.follow(record.job_id, record.last_seq)) as events:
        async for seq, event in events:
            record = fold(record, event, seq)
            now = frame(record)
            if now != sent:  # the client estimates the time left from the gaps: a repeated step would spoil it
                sent = now
                yield now


def frame(record: JobRecord) -> bytes:
    """Write the job's state as one event."""
    return b"data: " + status_of(record).model_dump_json().encode() + b"\n\n"
