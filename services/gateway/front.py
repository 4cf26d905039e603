"""The door: open as soon as the process runs, while FastAPI and the rest are still being imported behind it.

That import takes 0.4 s. Until it is done `/api/health` is answered here, and every other request waits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from services.gateway.body_limit import BodyLimit
from services.gateway.health import own_health

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from services.gateway.settings import Settings

_READABLE = ("Content-Range", "ETag", "Location", "Retry-After", "X-Engine", "X-Score")


class Front:
    """An ASGI app that passes on to another one, once `open` has named it."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None
        self._opened = asyncio.Event()

    def open(self, app: ASGIApp) -> None:
        """Let the requests through."""
        self._app = app
        self._opened.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, as soon as that can be done."""
        if self._app is None and scope["path"] == "/api/health":
            await JSONResponse(own_health(ready=False))(scope, receive, send)
            return
        await self._opened.wait()
        if self._app is not None:
            await self._app(scope, receive, send)


def guarded(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Put what holds for every answer around an app: CORS headers, on errors too, and the size limit."""
    return CORSMiddleware(
        BodyLimit(app, settings.max_body_bytes),
        allow_origins=settings.origins,
        allow_methods=("GET", "HEAD", "POST", "DELETE", "OPTIONS"),
        allow_headers=("Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Range"),
        expose_headers=_READABLE,
        max_age=3600,
    )
