"""The gateway's HTTP server with an app of the test, in the test's event loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from services.gateway.http.server import Server, listen
from services.gateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp


@asynccontextmanager
async def app_server(app: ASGIApp) -> AsyncIterator[tuple[Server, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Start a server with the app; yield it and a connection."""
    settings = Settings(port=0)
    server = Server(app, settings)
    with listen(settings) as listener:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([listener]), name="server")
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            try:
                yield server, reader, writer
            finally:
                server.stop()
                writer.close()
