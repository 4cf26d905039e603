"""A connection that does not wait for ever, and that does not end under a request that is on its way.

uvicorn gives a request as much time as its sender likes to take. Whoever sends a header byte by byte, or nothing at
all, holds a socket; whoever is refused and sends on has us read what nobody wants. Both need no key.

At a stop uvicorn closes what is idle, and what has been answered, without a word. A proxy whose next request meets that
must not repeat it: it may have been worked on. So we say `Connection: close` first (RFC 9112, section 9.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

_CLOSE = (b"connection", b"close")
_LINGER_S = 1.0  # after a stop, for a last request; a proxy with work has one for each of its connections by then


class TimeoutProtocol(H11Protocol):
    """Is closed when it has waited too long for the rest of a header, or for the end of a body that is not read.

    What an app reads is the app's to wait for, and the pause between two requests is uvicorn's.
    """

    patience_s: ClassVar[float]
    _closing: asyncio.TimerHandle | None = None
    _hanging_up: asyncio.TimerHandle | None = None  # since the stop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what has come, and look whether it was what we waited for."""
        super().data_received(data)
        unread = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if unread or self.conn.their_state is h11.IDLE:
            self._wait()
        else:
            self._stop_waiting()

    def handle_events(self) -> None:
        """Begin what has come; after a stop it is the last request."""
        super().handle_events()
        if self._hanging_up is not None:
            self._announce_end()

    def shutdown(self) -> None:
        """Say with the next answer that it is the last one, and hang up on who asks nothing any more."""
        self._announce_end()
        self._hanging_up = self.loop.call_later(_LINGER_S, super().shutdown)

    def _announce_end(self) -> None:
        # An answer that has begun has sent its headers; the request after it is told.
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn forgets to say that there may be none
        if cycle is not None and not cycle.response_started and _CLOSE not in cycle.default_headers:
            cycle.default_headers = [*cycle.default_headers, _CLOSE]

    def send_400_response(self, msg: str) -> None:
        """Say that this is not HTTP, unless it is the rest of something that has been answered: then just hang up."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        if self._hanging_up is not None:
            self._hanging_up.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._closing is None:
            self._closing = self.loop.call_later(self.patience_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None


def protocol_with_timeout(patience_s: float) -> type[TimeoutProtocol]:
    """Return the class of connections that wait for so many seconds."""
    return type("TimeoutProtocol", (TimeoutProtocol,), {"patience_s": patience_s})
