"""Liveness, startup and readiness of a process. `python -m shared.probes` requests the readiness of a local process.

That command is the HEALTHCHECK of every container and starts every few seconds, so this module imports nothing heavy.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

from shared.errors import ArtMancerError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

LIVE, STARTED, READY, METRICS = "/livez", "/startupz", "/readyz", "/metrics"
_TIMEOUT_S = 3.0  # above the two seconds after which the process itself gives up


class Probes:
    """Collects the conditions under which this process is ready. Each check returns the problem, or an empty string.

    Liveness has no check: any answer proves that the event loop runs.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._started = False
        self._checks: list[Callable[[], Awaitable[None]]] = []

    def require(self, check: Callable[[], Awaitable[None]]) -> None:
        """Add a condition for readiness. The check raises an ArtMancerError; its message is the problem."""
        self._checks.append(check)

    def mark_started(self) -> None:
        """Record that engines are loaded and requests are accepted."""
        self._started = True

    async def check_started(self) -> str:
        """Return whether the start is over. After that, a process without an answer hangs; before, it may be slow."""
        return "" if self._started else "The service is starting."

    async def check_ready(self) -> str:
        """Return whether this process accepts work now."""
        if self._stop.is_set():
            return "The service is stopping."
        try:
            for check in self._checks:
                await check()
        except ArtMancerError as error:
            return error.message
        return await self.check_started()


def probe(port: int, path: str = READY, *, timeout_s: float = _TIMEOUT_S) -> str:
    """Request a probe from the process on a local port; return the problem, or an empty string."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            with connection.makefile("rb") as stream:
                head, _, body = stream.read().partition(b"\r\n\r\n")
    except TimeoutError:
        return "The process does not respond: its event loop is blocked."
    except OSError:
        return f"No process listens on port {port}."
    return (
        ""
        if b" 200 " in head.splitlines()[0]
        else body.decode(errors="replace").strip() or "The process sent an empty response."
    )


def main(port: str) -> int:
    """Print the problem, if any; return the exit code for Docker: 0 for ready, else 1."""
    problem = probe(int(port)) if port.isdecimal() else "PROBE_PORT is not set, so this process has no probes."
    if problem:
        print(problem)  # noqa: T201 (Docker stores it with the state of the container)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(os.environ.get("PROBE_PORT", "")))
