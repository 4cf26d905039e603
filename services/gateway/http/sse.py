"""The transport of server-sent events: framing, heartbeat comments and the response's lifetime.

A stream lasts for minutes and there are thousands. So it has one task, the one that uvicorn makes for each request, and
after the head of the response it runs outside FastAPI and the middleware, whose frames hold 30 kB. Line ends are LF,
because the deployed client's parser accepts no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sse_starlette import ServerSentEvent
from starlette.responses import Response

from services.gateway.http.instrumentation import STREAM
from services.gateway.http.protocol import CONNECTION

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from services.gateway.access.key_limits import StreamLimits

_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Connection": "keep-alive",
    "X-Accel-Buffering": "no",
}
_PING = ServerSentEvent(comment="ping", sep="\n").encode()


class Connection(Protocol):
    """The connection of a request."""

    def begin_stream(self, on_lost: Callable[[], None]) -> None:
        """Call `on_lost` when the client disconnects; buffer little for a client that does not read."""

    def end_stream(self) -> None:
        """Undo `begin_stream`."""


class Source(Protocol):
    """The frames of a stream."""

    @property
    def has_ended(self) -> bool:
        """Return whether no more frames come."""

    async def next(self) -> tuple[list[bytes], bool]:
        """Wait; return new frames, and whether a heartbeat is due."""

    def stop(self) -> None:
        """Make `next` return, and set `ended`."""

    def close(self) -> None:
        """Free all resources."""


@dataclass(frozen=True, slots=True)
class Reader:
    """The key that opens a stream, and its limits."""

    key_id: str
    limits: StreamLimits
    may_read: Callable[[], bool]
    """Returns whether the key is still valid."""
    heartbeat_s: float


class EventStream(Response):
    """A response that ends with its source, with the client, or at the heartbeat after its key became invalid."""

    media_type = "text/event-stream"

    def __init__(self, reader: Reader, first: bytes, open_source: Callable[[], Source] | None = None) -> None:
        """Send the frame `first`, if it is not empty, and then those of the source."""
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._reader = reader
        self._first = first
        self._open_source = open_source
        self._source: Source | None = None
        self._connection: Connection | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head; the outermost middleware calls `run` later. Raises Busy."""
        del receive
        self._reader.limits.acquire(self._reader.key_id)
        scope[STREAM] = self
        self._connection = scope.get(CONNECTION)
        if self._open_source is not None:
            self._source = self._open_source()
            self._open_source = None
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self.raw_headers = []

    async def run(self, send: Send) -> None:
        """Send the frames, and a comment with each heartbeat."""
        source = self._source
        if self._connection is not None and source is not None:
            self._connection.begin_stream(source.stop)
        if self._first:
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            self._first = b""
        while source is not None and not source.has_ended:
            frames, heartbeat = await source.next()
            for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            if heartbeat and not source.has_ended:
                if not self._reader.may_read():
                    break
                await send({"type": "http.response.body", "body": _PING, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def close(self) -> None:
        """Free the stream's resources. Must follow, also if `run` was not called or failed."""
        self._reader.limits.release(self._reader.key_id)
        if self._connection is not None:
            self._connection.end_stream()
        if self._source is not None:
            self._source.close()
