"""An HTTP listener for probes and metrics, on a port that only operators reach."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.errors import ConfigError
from shared.probes import LIVE, METRICS, READY, STARTED, Probes

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.settings import ProbeSettings

_HEAD_BYTES = 8192
_ANSWER_S = 2.0  # must end before a prober gives up, or a hung broker would look like a hung service
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_TEXT = "text/plain; charset=utf-8"
_TEXT_OF_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
log = logging.getLogger(__name__)


@asynccontextmanager
async def serve_probes(settings: ProbeSettings, stop: asyncio.Event) -> AsyncIterator[Probes]:
    """Answer probes and scrapes while the block runs, if a port is set. Raises ConfigError."""
    probes = Probes(stop)
    if settings.port is None:
        yield probes
        return
    listener = _Listener(probes)
    try:
        server = await asyncio.start_server(listener.accept, settings.host, settings.port, limit=_HEAD_BYTES)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).rpartition(": ")[2]
        raise ConfigError(f"PROBE_PORT: cannot listen on {settings.host}:{settings.port}: {reason}.") from error
    log.info("probes.listening", extra={"host": settings.host, "port": server.sockets[0].getsockname()[1]})
    async with server:
        try:
            yield probes
        finally:
            await listener.close()


class _Listener:
    """Answers one request for each connection."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._open: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close all open connections."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve a new connection in our own task: asyncio logs an error when its own is cancelled."""
        task = asyncio.create_task(self._serve(reader, writer), name="probes.serve")
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
            async with asyncio.timeout(2 * _ANSWER_S):
                status, kind, body = await self._answer(reader)
                head = (
                    f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                    "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()

    async def _answer(self, reader: StreamReader) -> tuple[int, str, bytes]:
        try:
            method, target, _ = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        except (ValueError, asyncio.LimitOverrunError):
            return _plain(400, "This is not an HTTP/1.1 request.")
        if method != "GET":
            return _plain(405, "Only GET is allowed here.")
        path = target.partition("?")[0]
        if path == METRICS:
            return 200, _TEXT_OF_PROMETHEUS, render_metrics()
        checks: dict[str, Callable[[], Awaitable[str]]] = {
            LIVE: _alive,
            STARTED: self._probes.check_started,
            READY: self._probes.check_ready,
        }
        if path not in checks:
            return _plain(404, f"Only {LIVE}, {STARTED}, {READY} and {METRICS} exist here.")
        try:
            async with asyncio.timeout(_ANSWER_S):
                problem = await checks[path]()
        except TimeoutError:
            problem = "A dependency of the service does not respond in time."
        return _plain(503, problem) if problem else _plain(200, "Yes.")


async def _alive() -> str:
    return ""


def _plain(status: int, sentence: str) -> tuple[int, str, bytes]:
    return status, _TEXT, f"{sentence}\n".encode()


def render_metrics() -> bytes:
    """Return all metrics of this process in Prometheus' text format 0.0.4."""
    from prometheus_client import generate_latest  # noqa: PLC0415 (the gateway answers before it is imported)

    return generate_latest()
