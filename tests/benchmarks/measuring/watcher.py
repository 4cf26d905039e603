"""Clients of server-sent events on bare sockets: 200 of them must cost less than the server under test."""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial

_STAMP = re.compile(rb"ts:(\d+)")


class Watcher(asyncio.Protocol):
    """One open stream. It notes when each piece came, and reads them when all is over."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pieces: list[tuple[int, bytes]] = []
        self.opened = asyncio.Event()
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Note it."""
        self._pieces.append((time.monotonic_ns(), data))
        self.opened.set()

    def connection_lost(self, _: Exception | None) -> None:
        """Note that nothing more comes."""
        self.opened.set()
        self.ended.set()

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def ages_ms(self, since_ns: int) -> list[float]:
        """How old each stamp `ts:<monotonic ns>` was when it came, without those from before."""
        stamped = [(at, int(stamp)) for at, piece in self._pieces for stamp in _STAMP.findall(piece)]
        return [(at - stamp) / 1e6 for at, stamp in stamped if stamp > since_ns]


async def open_watchers(url: str, paths: list[str]) -> list[Watcher]:
    """Open a stream for each path; all have got their first frame."""
    port, loop = int(url.rpartition(":")[2]), asyncio.get_running_loop()
    watchers = []
    for path in paths:
        _, watcher = await loop.create_connection(partial(Watcher, path), "127.0.0.1", port)
        await asyncio.wait_for(watcher.opened.wait(), 10)
        watchers.append(watcher)
    return watchers
