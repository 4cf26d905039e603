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

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.gateway.http.instrumentation import STREAM

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

log = logging.getLogger(__name__)
CONNECTION = "artmancer.connection"
"""The key of the scope with the protocol of the request's connection, see sse.Connection."""
_CLOSE = (b"connection", b"close")
_KEPT = ("type", "method", STREAM)  # of the scope, until a stream ends
_STREAM_BUFFER_BYTES = 4096  # of frames that a slow client does not read; asyncio's default is 64 KiB
_REPORT_EVERY_S = 60.0
_HOSTS = {"1.0": (0, 1), "1.1": (1,)}  # how many a request names, by its version
_CODINGS: tuple[list[bytes], ...] = ([], [b"chunked"])
_HELD_BYTES = 64 * 1024
_LONGEST_PART_BYTES = 16 * 1024  # of a head, of the fields behind a body, or of the line before a chunk
_LINGER_S = 1.0  # after a stop, for one last request on each connection of a busy proxy


class JoinedWrites:
    """The transport of a connection, which sends two writes that follow each other as one.

    uvicorn writes the head of a response and its body separately, and each system call costs as much as the parsing of
    a request. What is not followed by another write leaves at the end of the loop's turn.
    """

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send the data together with what is held, or hold it."""
        if self._held or len(data) > _HELD_BYTES:
            self._send(data)
        elif data:
            self._held = data
            self._loop.call_soon(self._send)

    def close(self) -> None:
        """Send what is held, and close."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Pass all else on."""
        return getattr(self._transport, name)

    def _send(self, data: bytes = b"") -> None:
        held, self._held = self._held, b""
        if held or data:
            self._transport.write(held + data if held and data else held or data)


class TimeoutProtocol(HttpToolsProtocol):
    """Closes a connection that takes too long for the rest of a header, or for the end of a body that is not read.

    It also closes connections beyond the limit. A body that the app reads has no timeout here (limits/body_budget.py),
    and uvicorn limits the pause between two requests. A client may send its next request before the response to this
    one; then `cycle` and `scope` are those of the last request, and `_running` is the one that is answered now.
    """

    timeout_s: ClassVar[float]
    max_connections: ClassVar[int]
    _reported_at: ClassVar[float] = -math.inf
    _refused = False
    _timeout: asyncio.TimerHandle | None = None
    _on_lost: Callable[[], None] | None = None
    _lingering: asyncio.TimerHandle | None = None  # set by the stop
    _running: RequestResponseCycle | None = None
    _in_head = False
    _part_bytes = 0  # received since the last head, piece of a body or end of a request
    _unparsed: int | None = None  # bytes of the body of a request that asks for an upgrade: httptools skips it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        """Start the timeout for the first request; close a connection beyond the limit."""
        if len(self.connections) >= self.max_connections:
            self._refuse(transport)
            return
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport, self.loop)))
        self._start_timeout()

    def data_received(self, data: bytes) -> None:
        """Pass the data on, and restart or cancel the timeout."""
        self._unset_keepalive_if_required()
        if self._unparsed is None:
            self._parse(data)
        else:
            self._take_body(data)
        if self._is_answered():
            self._start_timeout()
        else:
            self._cancel_timeout()

    def _parse(self, data: bytes) -> None:
        self._part_bytes += len(data)
        try:
            self.parser.feed_data(data)
            if self._part_bytes > _LONGEST_PART_BYTES:  # the parser has no limit, and keeps all of a field
                self.send_400_response("A part of the request is too long.")
        except httptools.HttpParserUpgrade as upgrade:
            self._take_body(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _take_body(self, data: bytes) -> None:
        """Pass on the body of a request that asks for an upgrade; what follows it is dropped."""
        part = data[: self._unparsed]
        self._unparsed = (self._unparsed or 0) - len(part)
        if part:
            self.on_body(part)
        if not self._unparsed:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Add a piece of the body."""
        self._part_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body, unless the parser has left it to us. Raises HttpParserError if a field behind it says close."""
        self._part_bytes = 0
        if self.cycle.keep_alive and not self.parser.should_keep_alive():  # it would skip all further requests
            raise httptools.HttpParserError
        if self._unparsed is None:
            super().on_message_complete()

    def on_message_begin(self) -> None:
        """Begin the head of a request."""
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. uvicorn would add those behind a body, which nothing has checked, to the request's headers."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request. Raises HttpParserError for what a proxy in front may read differently.

        That is HTTP 0.9, anything but exactly one host (RFC 9112, 3.2), a transfer coding that is not ours, and a
        fragment, which uvicorn would cut off.
        """
        names = [name for name, _ in self.headers]
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if names.count(b"host") not in _HOSTS.get(self.parser.get_http_version(), ()) or codings not in _CODINGS:
            raise httptools.HttpParserError
        if b"#" in self.url or (codings and self.parser.should_upgrade()):
            raise httptools.HttpParserError
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # RFC 9110, 10.1.1: its clients take the 100 for the response
        super().on_headers_complete()
        self._in_head, self._part_bytes = False, 0
        if self.parser.should_upgrade():
            self._unparsed = int(dict(self.headers).get(b"content-length", 0))
            self.cycle.keep_alive = False  # for the parser, all that follows is another protocol

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        cast("dict[str, object]", cycle.scope)[CONNECTION] = self  # before the request's task runs
        super()._start_asgi_task(cycle, app)
        if self._lingering is not None:  # after a stop it is the last request
            self._announce_close()

    def shutdown(self) -> None:
        """Announce the close in the next response, and close the connection if no request comes."""
        self._announce_close()
        self._lingering = self.loop.call_later(_LINGER_S, super().shutdown)

    def _announce_close(self) -> None:
        # A response that has started has sent its headers; then the next one announces the close.
        cycle = self._running
        if cycle is not None and not cycle.response_started and _CLOSE not in cycle.default_headers:
            cycle.default_headers = [*cycle.default_headers, _CLOSE]

    def _is_answered(self) -> bool:
        return self._running is None or self._running.response_complete

    def send_400_response(self, msg: str) -> None:
        """Respond 400 to bytes that are not HTTP; close silently if they are the rest of an answered request."""
        # In a head nothing may wait for its response, behind it the request itself, whose body is malformed.
        cycle = self._running
        is_body_of_it = cycle is self.cycle is not None and not cycle.response_started
        is_next = self._is_answered() if self._in_head else is_body_of_it
        if is_next:
            super().send_400_response(msg)
        else:
            self.transport.close()
        if cycle is not None:
            cycle.disconnected = True  # its response would follow the 400

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers, and end the request that is answered now."""
        if self._refused:
            return
        self._cancel_timeout()
        if self._lingering is not None:
            self._lingering.cancel()
        super().connection_lost(exc)
        if self._running is not None:
            if not self._running.response_complete:
                self._running.disconnected = True
            self._running.message_event.set()
            cast("dict[str, object]", self._running.scope).pop(CONNECTION, None)  # a cycle, with all of the request
        if self._on_lost is not None:
            self._on_lost()

    def begin_stream(self, on_lost: Callable[[], None]) -> None:
        """See sse.Connection."""
        assert self._running is not None  # noqa: S101 (narrows the type: a stream is a response)
        self._on_lost = on_lost
        scope, self.headers = cast("dict[str, object]", self._running.scope), []
        kept = {key: scope[key] for key in _KEPT if key in scope}
        scope.clear()  # the request's headers, and what FastAPI found out about it
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
