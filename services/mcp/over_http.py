"""Serves the tools over streamable HTTP, behind a key, and only to the expected host names."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.server import MCPServer
    from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/mcp"
_LARGEST_BODY_BYTES = 64 * 1024**2
_NO_KEY = {"error": "Send the key of this server in the header Authorization, after the word Bearer."}


class KeyMiddleware:
    """ASGI middleware that answers 401 to a request without the key, before its body is read."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._expected = f"bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and not self._has_key(Headers(scope=scope)):
            headers = {"WWW-Authenticate": 'Bearer realm="artmancer-mcp"'}
            await JSONResponse(_NO_KEY, 401, headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _has_key(self, headers: Headers) -> bool:
        sent = headers.getlist("authorization")
        if len(sent) != 1:
            return False
        scheme, _, key = sent[0].partition(" ")
        return hmac.compare_digest(f"{scheme.lower()} {key.strip()}".encode(), self._expected)


def build_app(server: MCPServer, key: str, hosts: Sequence[str]) -> ASGIApp:
    """Return the server as an ASGI app. Any other Host or Origin is refused: a web page must not reach it."""
    origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
    security = TransportSecuritySettings(
        allowed_hosts=[name for host in hosts for name in (host, f"{host}:*")],
        allowed_origins=[name for origin in origins for name in (origin, f"{origin}:*")],
    )
    app = server.streamable_http_app(
        streamable_http_path=PATH, transport_security=security, max_request_body_size=_LARGEST_BODY_BYTES
    )
    return KeyMiddleware(app, key)


async def serve_http(server: MCPServer, key: str, host: str, port: int, hosts: Sequence[str]) -> None:
    """Serve until SIGINT or SIGTERM."""
    app = build_app(server, key, hosts)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", server_header=False, lifespan="on")
    await uvicorn.Server(config).serve()
