"""An endpoint of webhooks for tests: a small HTTP server with configurable answers that records its requests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from standardwebhooks import Webhook

from shared.settings import WebhookSettings
from tests.ports import HOST, free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from tests.gateway import Client

    Answer = Callable[["Received"], bytes | None]

LOOPBACK = WebhookSettings(allow_http=True, allowed_networks="127.0.0.0/8")
"""Endpoints on this machine are allowed."""


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Its header `webhook-id`."""
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """Return the body after the library of the specification has checked its signature v1."""
        return dict(Webhook(secret).verify(self.body, self.headers))


def status(code: int, *lines: str) -> bytes:
    """Return a short answer."""
    return "\r\n".join([f"HTTP/1.1 {code} X", "Content-Length: 0", *lines, "", ""]).encode()


OK = status(204)


@dataclass
class Receiver:
    """A server; `answer` returns its response (None: it cuts the connection), `received` has all requests in order."""

    answer: Answer = lambda _: OK
    received: list[Received] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    tls: ssl.SSLContext | None = None
    connections: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}/hook"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Listen during the block, and close open connections at its end."""
        writers: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            writers.add(writer)
            try:
                while (request := await _read(reader)) is not None:
                    self.received.append(request)
                    if (answer := self.answer(request)) is None:
                        writer.transport.abort()
                        return
                    writer.write(answer)
                    await writer.drain()
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writers.discard(writer)
                writer.close()

        server = await asyncio.start_server(serve, HOST, self.port, ssl=self.tls)
        try:
            yield self
        finally:
            server.close()
            for writer in list(writers):
                writer.transport.abort()
            await wait_until(lambda: not writers, "the receiver has closed its connections")

    async def has(self, count: int) -> list[Received]:
        """Wait until so many requests have come."""
        await wait_until(lambda: len(self.received) >= count, f"{count} webhooks have come")
        return self.received


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(first.split()[1], headers, body)


async def make(client: Client, url: str, **fields: object) -> dict[str, Any]:
    """Make an endpoint and return its description, with the secret."""
    answer = await client.post("/v1/webhooks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())
