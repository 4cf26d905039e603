"""Questions to a stack from outside: a yes is a yes, and everything else is a no."""

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
    """A server that says one thing to everybody; yields its port."""
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
        await wait_until(lambda: not clients, "every client has hung up")


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
    """Another program on the port, or a service that is still missing, is not a stack that is ready."""
    async with answering(answer) as port:
        if healthy:  # it has two seconds, and the machine may stand still for as long
            await wait_until(lambda: stack_is_healthy("127.0.0.1", port), "the yes has come in time")
        else:
            assert not await stack_is_healthy("127.0.0.1", port)


async def test_nobody_is_not_healthy() -> None:
    """A closed port is a no, not an error."""
    async with answering(b"") as closed:
        pass
    found = await stack_is_healthy("127.0.0.1", closed)

    assert found is False


async def test_only_nats_is_a_broker() -> None:
    """A web server on the broker's port does not pass for one."""
    async with answering(OK) as port:
        found = await broker_answers(f"nats://127.0.0.1:{port}")

    assert found is False
