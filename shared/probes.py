"""What a process says when somebody asks whether it lives, has started, can work; `python -m shared.probes` asks.

That command is the HEALTHCHECK of every container and starts every few seconds, so nothing heavy is imported here.
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
_PATIENCE_S = 3.0  # the process itself gives up after two


class Probes:
    """Collects what must hold before this process can work. Each answer is one sentence, empty where all is well.

    There is no question for liveness here: the answer comes from the event loop, so that it comes says that it turns.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._started = False
        self._checks: list[Callable[[], Awaitable[None]]] = []

    def require(self, check: Callable[[], Awaitable[None]]) -> None:
        """Ask this before saying "ready"; the check raises an ArtMancerError, whose message is the reason why not."""
        self._checks.append(check)

    def mark_started(self) -> None:
        """Note that engines are loaded and requests are listened to."""
        self._started = True

    async def check_started(self) -> str:
        """Whether the start is over; from then on a silent process hangs, and is not merely slow."""
        return "" if self._started else "The service is starting."

    async def check_ready(self) -> str:
        """Whether work may be sent here now."""
        if self._stop.is_set():
            return "The service is stopping."
        try:
            for check in self._checks:
                await check()
        except ArtMancerError as error:
            return error.message
        return await self.check_started()


def probe(port: int, path: str = READY, *, patience_s: float = _PATIENCE_S) -> str:
    """Ask the process that listens on a port of this machine; returns why the answer was no, or nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            with connection.makefile("rb") as stream:
                head, _, body = stream.read().partition(b"\r\n\r\n")
    except TimeoutError:
        return "The process does not answer: its event loop does not turn."
    except OSError:
        return f"Nobody listens on port {port}."
    return "" if b" 200 " in head.splitlines()[0] else body.decode(errors="replace").strip() or "It did not answer."


def main(port: str) -> int:
    """Return the exit code for Docker: 0 for ready, 1 after a sentence that says why not."""
    why = probe(int(port)) if port.isdecimal() else "PROBE_PORT is not set, so there is nobody to ask."
    if why:
        print(why)  # noqa: T201 (Docker keeps it with the container's state)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main(os.environ.get("PROBE_PORT", "")))
