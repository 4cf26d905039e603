"""Checks of a stack from outside: only a healthy response counts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from services.stack.health import broker_answers, stack_is_healthy
from tests.waiting import wait_until

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator

OK = b"HTTP/1.1 200 OK\r\n\r\n"


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """Run a server that sends one response to every client. Yields its port."""
    clients: set[StreamWriter] = set()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        clients.add(writer)
        writer.write(answer)
        writer.write_eof()
        await reader.read()
        writer.close()
        clients.remove(writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await wait_until(lambda: not clients, "every client has disconnected")


@pytest.mark.parametrize(
    ("answer", "healthy"),
    [
        (OK + b'{"status": "healthy", "services": {}}', True),
        (OK + b'{"status": "degraded"}', False),
        (b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"status": "healthy"}', False),
        (OK + b"<html>", False),
        (OK + b"[]", False),
        (b"", False),
    ],
)
async def test_only_healthy_is_healthy(answer: bytes, healthy: bool) -> None:  # noqa: FBT001 (the expectation)
    """Another server on the port or a missing service is not a ready stack."""
    async with answering(answer) as port:
        if healthy:  # the check has two seconds, and a loaded machine may need more
            await wait_until(lambda: stack_is_healthy("127.0.0.1", port), "the response has come in time")
        else:
            assert not await stack_is_healthy("127.0.0.1", port)


async def test_a_closed_port_is_not_healthy() -> None:
    """It is not an error either."""
    async with answering(b"") as closed:
        pass
    found = await stack_is_healthy("127.0.0.1", closed)

    assert found is False


async def test_only_nats_is_a_broker() -> None:
    """A web server on the port of the broker is not one."""
    async with answering(OK) as port:
        found = await broker_answers(f"nats://127.0.0.1:{port}")

    assert found is False
