"""Serves the port as soon as the process runs, while FastAPI and the routes are still imported.

That import takes 0.4 s. Until it ends, this module answers `/api/health`, and every other request waits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from services.gateway.access.audit_log import AuditMiddleware
from services.gateway.access.authorization import AuthorizationMiddleware
from services.gateway.http.body_limit import BodyLimit
from services.gateway.http.own_health import own_health

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.applications import Starlette
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from services.gateway.access.authentication import Authenticator
    from services.gateway.settings import Settings

_EXPOSED_HEADERS = (
    "Content-Range", "ETag", "Location", "Retry-After", "WWW-Authenticate", "X-Engine", "X-Request-Id", "X-Score",
    "traceresponse",
)  # fmt: skip
_ALLOWED_HEADERS = (
    "Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Range", "X-Request-Id",
    "traceparent",
)  # fmt: skip


class StartupShell:
    """An ASGI app that passes requests to the real app after `open`."""

    def __init__(self) -> None:
        self._app: Starlette | None = None
        self._opened = asyncio.Event()

    def open(self, app: Starlette) -> None:
        """Pass all requests, also those that wait, to this app."""
        self._app = app
        self._opened.set()

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """The routes of /api and /v1; none before `open`."""
        return () if self._app is None else cast("Sequence[BaseRoute]", self._app.state.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, after `open` at the earliest."""
        if self._app is None and scope["path"] == "/api/health":
            await JSONResponse(own_health(ready=False))(scope, receive, send)
            return
        await self._opened.wait()
        if self._app is not None:
            await self._app(scope, receive, send)


def add_middleware(shell: StartupShell, settings: Settings, authenticator: Authenticator | None) -> ASGIApp:
    """Wrap the app in the middleware that applies to every response.

    From outside in: audit log and request id, CORS (also for refusals), authorization, body limit.
    """
    with_cors = CORSMiddleware(
        AuthorizationMiddleware(BodyLimit(shell, settings.max_body_bytes), authenticator),
        allow_origins=settings.origins,
        allow_methods=("GET", "HEAD", "POST", "DELETE", "OPTIONS"),
        allow_headers=_ALLOWED_HEADERS,
        expose_headers=_EXPOSED_HEADERS,
        max_age=3600,
    )
    return AuditMiddleware(with_cors, lambda: shell.routes, writes=authenticator is not None)
