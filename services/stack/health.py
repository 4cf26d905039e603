"""Checks from outside: whether the broker answers and whether all services are healthy."""

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

_TIMEOUT_S = 2.0
_POLL_S = 0.1
_NATS_PORT = 4222


async def broker_answers(url: str) -> bool:
    """Return whether a NATS server sends its greeting at the URL's first address; over TLS, whether it accepts."""
    first = url.split(",", maxsplit=1)[0]
    address = urlsplit(first if "://" in first else f"nats://{first}")
    try:
        async with _connection(address.hostname or "", address.port or _NATS_PORT) as (reader, _):
            return address.scheme == "tls" or (await reader.readline()).startswith(b"INFO ")
    except (OSError, ValueError):
        return False


async def stack_is_healthy(host: str, port: int, trust: SSLContext | None = None) -> bool:
    """Return whether the gateway reports every service as healthy; with `trust`, ask over TLS."""
    try:
        async with _connection(host, port, trust) as (reader, writer):
            # With HTTP/1.0 the end of the connection ends the response.
            writer.write(f"GET /api/system/health HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            report = json.loads(body)
    except (OSError, ValueError):
        return False
    return b" 200 " in head and isinstance(report, dict) and report.get("status") == "healthy"


async def poll_until(check: Callable[[], Awaitable[bool]]) -> None:
    """Poll until the check succeeds: before a server exists, there is no event to wait for."""
    while not await check():  # noqa: ASYNC110 (another process has no event here)
        await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def _connection(
    host: str, port: int, trust: SSLContext | None = None
) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Connect; the whole block may take _TIMEOUT_S. Raises OSError, also for timeouts and errors of TLS."""
    async with asyncio.timeout(_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, port, ssl=trust)
        try:
            yield reader, writer
        finally:
            writer.close()
