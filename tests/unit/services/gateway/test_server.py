"""The socket that the gateway listens on."""

from __future__ import annotations

import asyncio
import socket

import pytest

from services.gateway.server import listen
from services.gateway.settings import Settings
from shared.errors import ConfigError


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
    """Nobody outside of this machine is served unless somebody says so."""
    with listen(Settings(port=0)) as listener:
        host = listener.getsockname()[0]

    assert host == "127.0.0.1"


def test_a_taken_port_is_a_wrong_setting() -> None:
    """In one sentence, with the address."""
    with listen(Settings(port=0)) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(ConfigError, match=f"Cannot listen on 127[.]0[.]0[.]1:{port}: Address already in use"):
            listen(Settings(port=port))
