"""What the server takes for a request, and what it refuses before any of our code sees it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from services.gateway.http.server import Server, listen
from services.gateway.settings import Settings

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

POST = b"POST / HTTP/1.1\r\nHost: gateway\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path, the names of the headers and the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    names = [name.decode() for name, _ in scope["headers"]]
    seen = json.dumps({"path": scope["path"], "names": names, "body": body.decode()}).encode()
    length = (b"content-length", str(len(seen)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": seen})


async def send_all(data: bytes, *later: bytes) -> bytes:
    """Send the bytes on one connection, the later ones when some response has come, and return all that comes."""
    settings = Settings(port=0, patience_s=2.0)
    server = Server(echo, settings)
    with listen(settings) as listener:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([listener]), name="server")
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(data)
            answer = b""
            for part in later:
                answer += await reader.read(1)
                writer.write(part)
            answer += await reader.read()
            server.stop()
            writer.close()
    return answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        POST + b"Host: another\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: one\r\nHost: two\r\n\r\n",
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        POST + b"Content-Length: 4, 5\r\n\r\nabcde",
        POST + b"Content-Length: +4\r\n\r\nabcd",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 0x4\r\n\r\nabcd",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT gateway:443 HTTP/1.1\r\nHost: gateway\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\na\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        POST + b"X-Name: a\x00b\r\n\r\n",
        POST + b"X Name: a\r\n\r\n",
        POST + b": a\r\n\r\n",
        POST + b"X-Name\r\n\r\n",
        POST + b" folded: a\r\n\r\n",
        b"POST /\x80 HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"POST /#fragment HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"POST / HTTP/3.7\r\nHost: gateway\r\n\r\n",
        b"POST /\r\nHost: gateway\r\n\r\n",
        b"nonsense\r\n\r\n",
        CHUNKED + b"3\r\none\r\n0\r\nConnection: close\r\n\r\n",
        POST + b"X-Long: " + b"x" * 100_000,
    ],
    ids=lambda data: repr(bytes(data))[2:60],
)
async def test_what_two_servers_could_read_differently_is_refused(request_bytes: bytes) -> None:
    """A proxy in front may take its end or its host for another one, so nothing behind it is served either."""
    answer = await send_all(request_bytes + (b"" if request_bytes.endswith(b"xxx") else LAST))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"/last" not in answer
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_requests_that_come_together_are_answered_in_order() -> None:
    """The second one waits for the response to the first."""
    answer = await send_all(POST + b"Content-Length: 3\r\n\r\none" + LAST)

    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.index(b'"one"') < answer.index(b'"/last"')


@pytest.mark.parametrize("line", [b"0\r\nX-Long: ", b"3; name="])
async def test_a_chunked_body_has_no_line_without_an_end(line: bytes) -> None:
    """The parser keeps all of a field, and no piece of a body ends the wait."""
    answer = await send_all(POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", line + b"x" * 20_000)

    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 400 " in answer


async def test_only_a_head_that_has_not_ended_is_too_long() -> None:
    """What came with the beginning of the last head, requests and their bodies, does not count."""
    many, size = (GET[:-2] + b"X-Name: " + b"x" * 300 + b"\r\n\r\n") * 60, b"%d" % 20_000
    for first in (many, POST + b"Content-Length: " + size + b"\r\n\r\n" + b"x" * 20_000):
        answer = await send_all(first + LAST[:20], LAST[20:])

        assert b" 400 " not in answer
        assert b'"/last"' in answer


async def test_a_malformed_body_does_not_answer_the_request_before_it() -> None:
    """The request before it runs, so a 400 would say that it had no effect."""
    answer = await send_all(GET + CHUNKED + b"zz\r\n" + LAST)

    assert answer == b""


async def test_a_client_of_the_first_version_gets_no_100() -> None:
    """RFC 9110, 10.1.1: it would take it for the response."""
    answer = await send_all(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\none")

    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_an_upgrade_is_declined_by_an_answer() -> None:
    """A client of Java sends it with its first request, also with a body. The connection closes behind the answer."""
    answer = await send_all(POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\none" + LAST)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    assert b'"one"' in answer
    assert b"/last" not in answer


async def test_fields_behind_a_body_are_no_headers() -> None:
    """Nothing has checked them: the request was authorized before they came."""
    chunked = b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\nAuthorization: late\r\n\r\n"
    answer = await send_all(POST + chunked)

    assert b'"one"' in answer
    assert b"authorization" not in answer.lower()


@pytest.mark.parametrize("more", [b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n"])
async def test_a_request_may_come_in_parts(more: bytes) -> None:
    """The end of its head may come in a packet of its own, and a body byte by byte."""
    settings = Settings(port=0)
    server = Server(echo, settings)
    with listen(settings) as listener:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([listener]), name="server")
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            for byte in POST + more + b"Content-Length: 3\r\n\r\none":
                writer.write(bytes([byte]))
                await writer.drain()
            answer = await reader.read()
            server.stop()
            writer.close()

    assert b'"one"' in answer
