"""The transport of server-sent events: framing, keep-alive comments and the response's lifetime.

Line ends are LF, because the deployed client's parser accepts no other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sse_starlette import EventSourceResponse, ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


class EventStream(EventSourceResponse):
    """A response that ends when its events end. The source of the events must end them when the server stops."""

    async def _listen_for_exit_signal_with_grace(self) -> None:
        # The library would poll for a uvicorn with its own signal handlers, twice a second, in a task that never ends.
        await asyncio.Event().wait()


def event_stream(frames: AsyncIterator[bytes | dict[str, Any]], heartbeat_s: float) -> EventStream:
    """Stream frames (bytes, or sse-starlette's dicts), with a comment after each pause of `heartbeat_s` seconds."""
    return EventStream(
        frames,
        headers=_HEADERS,
        sep="\n",
        ping=heartbeat_s,
        ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
    )
