"""Runs uvicorn inside our event loop: without its signal handlers, on a socket that is bound first."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import uvicorn

from services.gateway.access.forwarded import ForwardedMiddleware
from services.gateway.http.protocol import protocol_with_limits
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from services.gateway.settings import Settings

_CONNECTIONS = 1000  # fits into any usual limit of descriptors
_ACCEPTED_AT_ONCE = 16  # connections in one turn of the loop; each has a descriptor before its protocol can refuse it
_BACKLOG = 2048  # connections that wait to be accepted
_CLOSE_S = 1.0  # after the drain time, for the last bytes of the responses that it ended; lifecycle.py allows two


class Server(uvicorn.Server):
    """Serves an app until `stop`; requests that then run longer than `drain_s` and a second are cancelled."""

    def __init__(self, app: ASGIApp, settings: Settings, max_connections: int = _CONNECTIONS) -> None:
        super().__init__(
            uvicorn.Config(
                ForwardedMiddleware(app, settings.trusted_proxies),
                http=protocol_with_limits(settings.patience_s, max_connections),
                backlog=_ACCEPTED_AT_ONCE,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",  # its warnings would let any client fill the log
                access_log=False,
                server_header=False,
                proxy_headers=False,  # by our own middleware
                timeout_keep_alive=75,  # longer than proxies keep theirs, or they send into a closed connection
                timeout_graceful_shutdown=settings.drain_s + _CLOSE_S,  # type: ignore[arg-type] # takes fractions, too
            )
        )
        self.config.load()  # imports the protocol before the thread that imports the app starts

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers: shared/lifecycle.py has the signals."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept. asyncio uses one number for the queue of the kernel and for the accepts in one turn."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)

    def stop(self) -> None:
        """Accept no more requests; `serve` returns when the running ones have ended."""
        self.should_exit = True


def listen(settings: Settings) -> socket.socket:
    """Return a socket bound to the settings' address; port 0 takes a free one. Raises ConfigError."""
    # Not socket.create_server: asyncio sets TCP_NODELAY only on sockets that name their protocol, and without it every
    # small response and every event waits 40 ms for the acknowledgement of the one before.
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.") from error
    return listener
