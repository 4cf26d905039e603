"""uvicorn, embedded: it owns no signals, and it listens on a socket that is bound before anything else happens."""

from __future__ import annotations

import contextlib
import math
import socket
from typing import TYPE_CHECKING

import uvicorn

from services.gateway.http.protocol import protocol_with_timeout
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from services.gateway.settings import Settings

_BACKLOG = 2048  # connections that may come before they are accepted


class Server(uvicorn.Server):
    """Serves one app until `stop`; then requests get `drain_s` to end."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_with_timeout(settings.patience_s),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",  # it warns of each request that is not HTTP, and anybody can send those
                access_log=False,
                server_header=False,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=settings.trusted_proxies,  # not given, uvicorn would trust all of 127.0.0.1
                timeout_keep_alive=75,  # longer than proxies keep theirs, or they send into a closed connection
                timeout_graceful_shutdown=math.ceil(settings.drain_s),
            )
        )
        self.config.load()  # imports the protocol now, not beside the thread that imports the app

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to shared/lifecycle.py."""
        yield

    def stop(self) -> None:
        """Take no more requests; `serve` returns when those that run have ended."""
        self.should_exit = True


def listen(settings: Settings) -> socket.socket:
    """Bind the address; its port is a free one if the setting is 0. Raises ConfigError."""
    # Not socket.create_server: asyncio sets TCP_NODELAY only on sockets that name their protocol, and without it every
    # small answer and every event waits 40 ms for the acknowledgement of the one before.
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
