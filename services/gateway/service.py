"""The gateway process: HTTP in front, the bus behind. It listens at once, with or without a broker."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from services.gateway.access.authentication import create_authenticator
from services.gateway.http.instrumentation import InstrumentationMiddleware
from services.gateway.http.middleware import add_middleware
from services.gateway.http.server import Server, listen
from services.gateway.http.startup_shell import StartupShell
from services.gateway.limits.descriptors import raise_descriptor_limit
from shared.errors import ConfigError, first_of
from shared.lifecycle import race
from shared.listener import serve_probes

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from fastapi import FastAPI

    from services.gateway.access.authentication import Authenticator
    from services.gateway.core.feed import Feed
    from services.gateway.http.instrumentation import Exchange
    from services.gateway.settings import Settings

    Open = Callable[[Settings, Authenticator | None], AbstractAsyncContextManager[FastAPI]]

log = logging.getLogger(__name__)
_FIRST_CONNECT_S = 5.0  # the requests that come meanwhile wait; without a broker they are then refused


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`; then requests and event streams have the drain time to end.

    Raises ConfigError for contradictory access settings, an address that is in use, or a broker that refuses us.
    """
    authenticator = create_authenticator(settings)
    shell = StartupShell()
    instrumented = InstrumentationMiddleware(add_middleware(shell, settings, authenticator))
    server = Server(instrumented, settings, raise_descriptor_limit())
    with listen(settings) as socket:
        log.info("http.listening", extra={"host": settings.host, "port": socket.getsockname()[1]})
        try:
            async with serve_probes(settings.probe, stop) as probes, asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(server.serve([socket]), name="gateway.http")
                open_app, instrumented.report = await asyncio.to_thread(_import_app)
                async with open_app(settings, authenticator) as app:
                    await wait_for_broker(app.state.deps.declared, stop)
                    shell.open(app)
                    probes.require(app.state.deps.check)
                    probes.mark_started()
                    await stop.wait()
                    server.stop()
                    await _drain(serving, app.state.deps.feed, settings.drain_s)
        except* ConfigError as errors:
            raise first_of(errors) from None


async def wait_for_broker(declared: asyncio.Event, stop: asyncio.Event, wait_s: float = _FIRST_CONNECT_S) -> None:
    """Give the connection to the broker a moment, so that a gateway beside others refuses nothing while it starts."""
    await race(declared.wait(), stop.wait(), timeout_s=wait_s)


async def _drain(serving: asyncio.Task[None], feed: Feed, drain_s: float) -> None:
    """Let the requests finish, then end those that wait for a job."""
    await asyncio.wait({serving}, timeout=drain_s)
    feed.close()
    await serving


def _import_app() -> tuple[Open, Callable[[Exchange], None]]:
    # Takes 0.4 s, so it runs in a thread.
    from services.gateway.app import open_app  # noqa: PLC0415
    from services.gateway.http.metrics import count  # noqa: PLC0415

    return open_app, count
