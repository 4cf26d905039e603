"""Slow clients without a key: each connection is closed in the end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from shared.settings import NatsSettings
from tests.gateway import HOST, WorkerByHand, gateway
from tests.integration.keyed import keyed_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.running import Desk

HEAD = b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\n"
ENDLESS = b"Content-Length: 99999999999\r\n\r\n"


@pytest.fixture
async def hasty(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[Client]:
    """Run a gateway with a short timeout."""
    assert bus.is_connected
    async with gateway(NatsSettings(url=nats_url), stream_settings, patience_s=0.3, heartbeat_s=0.1) as client:
        yield client


@pytest.fixture
async def keyed_client(
    bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path
) -> AsyncIterator[Client]:
    """Run such a gateway with keys; yield a client without a key."""
    assert bus.is_connected
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path, patience_s=0.3) as house:
        yield house.nobody


@asynccontextmanager
async def connect(client: Client) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a bare connection; the block must end within ten seconds."""
    reader, writer = await asyncio.open_connection(HOST, client.port)
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.transport.abort()


async def until_cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send the data again and again until the gateway closes the connection."""
    with suppress(ConnectionError):
        while not await is_closed(reader):
            writer.write(data)
            await writer.drain()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(0.02):
            return await reader.read(65_536) == b""
    return False


@pytest.mark.parametrize("begun", [b"", HEAD])
async def test_a_header_must_come(hasty: Client, begun: bytes) -> None:
    """Without one, or with half of one, the connection is closed."""
    async with connect(hasty) as (reader, writer):
        writer.write(begun)
        said = await reader.read()

    assert said == b""


async def test_so_must_the_next_one(hasty: Client) -> None:
    """A response does not lengthen the timeout."""
    async with connect(hasty) as (reader, writer):
        writer.write(b"HEAD /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        said = await reader.read()

    assert head.startswith(b"HTTP/1.1 405 ")
    assert not said.startswith(b"HTTP/1.1 ")


async def test_a_byte_now_and_then_is_no_header(hasty: Client) -> None:
    """The time counts from the first of them."""
    async with connect(hasty) as (reader, writer):
        writer.write(HEAD + b"X-Slow: ")
        await until_cut(reader, writer, b"x")


async def test_who_is_refused_cannot_send_on_for_ever(keyed_client: Client) -> None:
    """The client receives the 401; its data is read only for a moment, so that the response arrives."""
    async with connect(keyed_client) as (reader, writer):
        writer.write(HEAD + ENDLESS)
        status = await reader.readline()
        await until_cut(reader, writer, bytes(65_536))

    assert status.startswith(b"HTTP/1.1 401 ")


async def test_nonsense_behind_a_refusal_is_no_fault_of_ours(
    keyed_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Any client can send it, so it must not reach the log."""
    async with connect(keyed_client) as (reader, writer):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        status = await reader.readline()
        await until_cut(reader, writer, b"not a chunk\r\n")

    assert status.startswith(b"HTTP/1.1 401 ")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_nothing_is_read_of_what_nobody_sends_to_an_open_address(keyed_client: Client) -> None:
    """The response comes before the first byte of the body."""
    async with connect(keyed_client) as (reader, writer):
        writer.write(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n" + ENDLESS)
        status = await reader.readline()

    assert status.startswith(b"HTTP/1.1 413 ")


async def test_who_only_listens_may_stay(hasty: Client, desk: Desk, bus: Bus, images: NatsImageStore) -> None:
    """A stream may last longer than the timeout for a header."""
    await desk.submit(task := "j1", user="local")
    async with await hasty.open_stream(f"/api/generate/stream/{task}") as wire:
        pings = 0
        while pings < 6:
            pings += (await wire.chunk()).startswith(b": ping")
        await WorkerByHand(bus, images).finish(task)
        rest = await wire.rest()

    assert rest[-1].startswith(b"data: ")
