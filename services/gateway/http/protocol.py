"""An HTTP protocol for uvicorn with timeouts and a clean close.

uvicorn waits without limit for the rest of a request. A client that sends a header byte by byte, or nothing, would hold
a socket; a refused client that keeps sending would keep us reading. Neither needs a key.

At a stop uvicorn closes idle connections at once. A proxy that has just sent its next request on one of them must not
repeat it, because it may have been processed. So this protocol first sends `Connection: close` (RFC 9112, section 9.6).
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, ClassVar, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.gateway.http.instrumentation import STREAM

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

log = logging.getLogger(__name__)
CONNECTION = "artmancer.connection"
"""The key of the scope with the protocol of the request's connection, see sse.Connection."""
_CLOSE = (b"connection", b"close")
_KEPT = ("type", "method", STREAM)  # of the scope, until a stream ends
_STREAM_BUFFER_BYTES = 4096  # of frames that a slow client does not read; asyncio's default is 64 KiB
_REPORT_EVERY_S = 60.0
_HELD_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024  # at once, of asyncio's 256 KiB: tiny chunks cost h11 6 us each, and all other requests wait
_LENGTHS = {b"content-length", b"transfer-encoding"}
_LINGER_S = 1.0  # after a stop, for one last request on each connection of a busy proxy


class JoinedWrites:
    """The transport of a connection: it sends two consecutive writes as one.

    uvicorn writes the head of a response and its body separately, and each system call costs as much as the parsing of
    a request. A write without a second one is sent at the end of the loop's turn.
    """

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send the data together with the held write, or hold it."""
        if self._held or len(data) > _HELD_BYTES:
            self._send(data)
        elif data:
            self._held = data
            self._loop.call_soon(self._send)

    def close(self) -> None:
        """Send the held write, and close."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Pass all else on."""
        return getattr(self._transport, name)

    def _send(self, data: bytes = b"") -> None:
        held, self._held = self._held, b""
        if held or data:
            self._transport.write(held + data)


class TimeoutProtocol(H11Protocol):
    """Closes a connection that takes too long for the rest of a header, or for the end of a body that is not read.

    It also closes connections beyond the limit. A body that the app reads has no timeout here (limits/body_budget.py),
    and uvicorn limits the pause between two requests.
    """

    timeout_s: ClassVar[float]
    max_connections: ClassVar[int]
    _reported_at: ClassVar[float] = -math.inf
    _refused = False
    _timeout: asyncio.TimerHandle | None = None
    _on_lost: Callable[[], None] | None = None
    _lingering: asyncio.TimerHandle | None = None  # set by the stop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        """Start the timeout for the first request; close a connection beyond the limit."""
        if len(self.connections) >= self.max_connections:
            self._refuse(transport)
            return
        cast("Any", transport).max_size = _READ_BYTES
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport, self.loop)))
        self._start_timeout()

    def data_received(self, data: bytes) -> None:
        """Pass the data on, and restart or cancel the timeout."""
        super().data_received(data)
        unread = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if unread or self.conn.their_state is h11.IDLE:
            self._start_timeout()
        else:
            self._cancel_timeout()

    def handle_events(self) -> None:
        """Start the received request; after a stop, or with two lengths (RFC 9112, section 6.1), it is the last one."""
        super().handle_events()
        if self.scope is not None:
            cast("dict[str, object]", self.scope)[CONNECTION] = self  # before the request's task runs
        if self._lingering is not None or {name for name, _ in self.headers or ()} >= _LENGTHS:
            self._announce_close()

    def shutdown(self) -> None:
        """Announce the close in the next response, and close the connection if no request comes."""
        self._announce_close()
        self._lingering = self.loop.call_later(_LINGER_S, super().shutdown)

    def _announce_close(self) -> None:
        # A response that has started has sent its headers; then the next one announces the close.
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's annotation lacks the None
        if cycle is not None and not cycle.response_started and _CLOSE not in cycle.default_headers:
            cycle.default_headers = [*cycle.default_headers, _CLOSE]

    def send_400_response(self, msg: str) -> None:
        """Respond 400 to bytes that are not HTTP; close silently if they are the rest of an answered request."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's annotation lacks the None
        if cycle is not None:
            cycle.disconnected = True  # its response would follow the 400: an error in h11, with a traceback in the log

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        if self._refused:
            return
        self._cancel_timeout()
        if self._lingering is not None:
            self._lingering.cancel()
        super().connection_lost(exc)
        if self.scope is not None:  # None before the first request, whatever uvicorn declares
            cast("dict[str, object]", self.scope).pop(CONNECTION, None)  # a cycle, with all that the request held
        if self._on_lost is not None:
            self._on_lost()

    def begin_stream(self, on_lost: Callable[[], None]) -> None:
        """See sse.Connection."""
        self._on_lost = on_lost
        scope, self.headers = cast("dict[str, object]", self.scope), []
        kept = {key: scope[key] for key in _KEPT if key in scope}
        scope.clear()  # removes the request's headers and FastAPI's data about it
        scope.update(kept)
        self.transport.set_write_buffer_limits(high=_STREAM_BUFFER_BYTES)
        if self.transport.is_closing():
            on_lost()

    def end_stream(self) -> None:
        """See sse.Connection."""
        self._on_lost = None
        self.transport.set_write_buffer_limits()

    def _refuse(self, transport: asyncio.Transport) -> None:
        self._refused = True
        transport.abort()
        cls, now = type(self), self.loop.time()
        if now >= cls._reported_at + _REPORT_EVERY_S:
            cls._reported_at = now
            log.warning("http.connections_full", extra={"connections": self.max_connections})

    def _start_timeout(self) -> None:
        if self._timeout is None:
            self._timeout = self.loop.call_later(self.timeout_s, self.transport.close)

    def _cancel_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None


def protocol_with_limits(timeout_s: float, max_connections: int) -> type[TimeoutProtocol]:
    """Return a protocol class with this timeout, in seconds, and this limit of open connections."""
    return type("TimeoutProtocol", (TimeoutProtocol,), {"timeout_s": timeout_s, "max_connections": max_connections})
