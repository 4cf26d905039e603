"""The door: open as soon as the process runs, while FastAPI and the rest are still being imported behind it.

That import takes 0.4 s. Until it is done `/api/health` is answered here, and every other request waits.
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

_READABLE = (
    "Content-Range", "ETag", "Location", "Retry-After", "WWW-Authenticate", "X-Engine", "X-Request-Id", "X-Score",
    "traceresponse",
)  # fmt: skip
_SENDABLE = (
    "Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Range", "X-Request-Id",
    "traceparent",
)  # fmt: skip


class StartupShell:
    """An ASGI app that passes on to another one, once `open` has named it."""

    def __init__(self) -> None:
        self._app: Starlette | None = None
        self._opened = asyncio.Event()

    def open(self, app: Starlette) -> None:
        """Let the requests through."""
        self._app = app
        self._opened.set()

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """Those of both faces, once they are there."""
        return () if self._app is None else cast("Sequence[BaseRoute]", self._app.state.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, as soon as that can be done."""
        if self._app is None and scope["path"] == "/api/health":
            await JSONResponse(own_health(ready=False))(scope, receive, send)
            return
        await self._opened.wait()
        if self._app is not None:
            await self._app(scope, receive, send)


def add_middleware(shell: StartupShell, settings: Settings, authenticator: Authenticator | None) -> ASGIApp:
    """Put what holds for every answer around the app.

    From outside in: the request's id and the audit log, CORS headers, on refusals too, access, the size limit.
    """
    with_cors = CORSMiddleware(
        AuthorizationMiddleware(BodyLimit(shell, settings.max_body_bytes), authenticator),
        allow_origins=settings.origins,
        allow_methods=("GET", "HEAD", "POST", "DELETE", "OPTIONS"),
        allow_headers=_SENDABLE,
        expose_headers=_READABLE,
        max_age=3600,
    )
    return AuditMiddleware(with_cors, lambda: shell.routes, writes=authenticator is not None)
