"""Questions to a running stack from outside: does the broker answer, do all services call themselves healthy."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Awaitable, Callable
    from ssl import SSLContext

_PATIENCE_S = 2.0
_ASK_EVERY_S = 0.1
_NATS_PORT = 4222


async def broker_answers(url: str) -> bool:
    """Whether something that speaks NATS answers at the first address of the URL; over TLS, whether it is there."""
    first = url.split(",", maxsplit=1)[0]
    address = urlsplit(first if "://" in first else f"nats://{first}")
    try:
        async with _connection(address.hostname or "", address.port or _NATS_PORT) as (reader, _):
            return address.scheme == "tls" or (await reader.readline()).startswith(b"INFO ")
    except (OSError, ValueError):
        return False


async def stack_is_healthy(host: str, port: int, trust: SSLContext | None = None) -> bool:
    """Whether the gateway answers that every service is healthy; over TLS where it is said whom to trust."""
    try:
        async with _connection(host, port, trust) as (reader, writer):
            # HTTP/1.0: the answer ends where the connection does.
            writer.write(f"GET /api/system/health HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            report = json.loads(body)
    except (OSError, ValueError):
        return False
    return b" 200 " in head and isinstance(report, dict) and report.get("status") == "healthy"


async def poll_until(answer: Callable[[], Awaitable[bool]]) -> None:
    """Ask until the answer is yes; a server that is not there yet has no event to wait for."""
    while not await answer():  # noqa: ASYNC110 (the other side is another process)
        await asyncio.sleep(_ASK_EVERY_S)


@asynccontextmanager
async def _connection(
    host: str, port: int, trust: SSLContext | None = None
) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Connect; the whole block has _PATIENCE_S. Raises OSError, which TimeoutError and the errors of TLS are."""
    async with asyncio.timeout(_PATIENCE_S):
        reader, writer = await asyncio.open_connection(host, port, ssl=trust)
        try:
            yield reader, writer
        finally:
            writer.close()
