"""Answers requests as soon as the process runs, while FastAPI and the routes are imported and the broker is called.

The import takes 0.4 s. Until `open`, this module answers `/api/health`, and every other request waits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from starlette.responses import JSONResponse

from services.gateway.http.own_health import own_health

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.applications import Starlette
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send


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
