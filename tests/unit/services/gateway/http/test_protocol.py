"""Bytes that are not HTTP, or that two servers could read differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.services.gateway.http.app_server import app_server

if TYPE_CHECKING:
    import pytest
    from starlette.types import ASGIApp, Receive, Scope, Send

GET = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"


async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer before the body is read, as for an unknown address."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def count(_scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the largest part of the body."""
    largest, more = 0, True
    while more:
        message = await receive()
        largest, more = max(largest, len(message["body"])), message["more_body"]
    body = str(largest).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def send_all(app: ASGIApp, data: bytes) -> bytes:
    """Send the bytes on one connection and return all that comes until it closes."""
    async with app_server(app) as (_, reader, writer):
        writer.write(data)
        return await reader.read()


async def test_a_malformed_body_has_one_response_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The app answers behind our 400; without a key, any client could fill the log."""
    answer = await send_all(refuse, CHUNKED + b"zz\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert "Exception in ASGI application" not in caplog.text


async def test_a_request_with_two_lengths_is_the_last_one() -> None:
    """A proxy in front may have read another end of its body, and would take the rest for a request."""
    twice = CHUNKED.removesuffix(b"\r\n") + b"Content-Length: 5\r\n\r\n1\r\na\r\n0\r\n\r\n"
    answer = await send_all(count, twice + GET)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_little_is_parsed_at_once() -> None:
    """The parser does not pause, and tiny chunks take it microseconds for each byte."""
    body = b"x" * 400_000
    answer = await send_all(
        count, b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 400000\r\n\r\n" + body
    )

    assert 0 < int(answer.rpartition(b"\r\n")[2]) <= 2 * 64 * 1024
