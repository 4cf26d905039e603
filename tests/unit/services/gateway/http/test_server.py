"""The gateway's listening socket, and the end of its connections."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from services.gateway.http.server import listen
from services.gateway.settings import Settings
from shared.errors import ConfigError
from tests.unit.services.gateway.http.app_server import app_server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from services.gateway.http.server import Server


async def test_connections_send_small_answers_at_once() -> None:
    """TCP_NODELAY is on; Nagle's algorithm would hold every event back for 40 ms."""
    options: asyncio.Queue[int] = asyncio.Queue()

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await options.put(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listen(Settings(port=0)) as listener:
        async with await asyncio.start_server(note, sock=listener) as server:
            host, port = server.sockets[0].getsockname()
            _, writer = await asyncio.open_connection(host, port)
            no_delay = await options.get()
            writer.close()
            await writer.wait_closed()

    assert no_delay


def test_the_default_is_loopback() -> None:
    """By default only this machine can connect."""
    with listen(Settings(port=0)) as listener:
        host = listener.getsockname()[0]

    assert host == "127.0.0.1"


def test_a_taken_port_is_a_wrong_setting() -> None:
    """In one sentence, with the address."""
    with listen(Settings(port=0)) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(ConfigError, match=f"Cannot listen on 127[.]0[.]0[.]1:{port}: Address already in use"):
            listen(Settings(port=port))


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[tuple[Server, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Start a server with the app; yield it and a connection after its first response."""
    async with app_server(app) as (server, reader, writer):
        assert b"connection: close" not in await post(reader, writer)
        yield server, reader, writer


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Send a request and return the headers of its response, which has no body."""
    writer.write(b"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 2\r\n\r\nhi")
    return await reader.readuntil(b"\r\n\r\n")


async def accept(_: Scope, __: Receive, send: Send) -> None:
    """Answer every request."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def is_closed(server: Server) -> bool:
    """Return whether the server has stopped listening."""
    return not any(each.is_serving() for each in server.servers)


async def test_a_request_that_meets_a_stop_is_answered_and_told_of_it() -> None:
    """A proxy may have sent it before it saw the stop, and must not repeat it."""
    async with serving(accept) as (server, reader, writer):
        server.stop()
        await wait_until(lambda: is_closed(server), "it listens no more")
        answer = await post(reader, writer)
        rest = await reader.read()

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer
    assert rest == b""


async def test_an_answer_that_has_not_begun_at_a_stop_tells_of_it() -> None:
    """Otherwise a proxy would send its next request into a closing connection."""
    working, go_on = asyncio.Event(), asyncio.Event()
    go_on.set()

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        working.set()
        await go_on.wait()
        await accept(scope, receive, send)

    async with serving(work) as (server, reader, writer), asyncio.TaskGroup() as tasks:
        working.clear()
        go_on.clear()
        asked = tasks.create_task(post(reader, writer), name="post")
        await working.wait()
        server.stop()
        await wait_until(lambda: is_closed(server), "it listens no more")
        go_on.set()

        assert b"connection: close" in await asked


async def test_who_asks_nothing_more_does_not_hold_up_a_stop() -> None:
    """The connection is closed, with time to spare before the drain ends."""
    async with asyncio.timeout(Settings().drain_s), serving(accept) as (server, reader, _):
        server.stop()
        rest = await reader.read()

    assert rest == b""
