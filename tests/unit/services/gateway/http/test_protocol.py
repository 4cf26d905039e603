"""Bytes that are not HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.gateway.http.server import Server, listen
from services.gateway.settings import Settings

if TYPE_CHECKING:
    import pytest
    from starlette.types import Receive, Scope, Send

CHUNKED = b"POST / HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"


async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer before the body is read, as for an unknown address."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def test_a_malformed_body_has_one_response_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The app answers behind our 400; without a key, any client could fill the log."""
    settings = Settings(port=0)
    server = Server(refuse, settings)
    with listen(settings) as listener:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([listener]), name="server")
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(CHUNKED + b"zz\r\n")
            answer = await reader.read()
            server.stop()
            writer.close()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert "Exception in ASGI application" not in caplog.text
