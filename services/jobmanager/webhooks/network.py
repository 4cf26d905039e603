"""Opens connections to endpoints: only to allowed addresses, and to the very address that was checked.

A name could lead to another address at a second look-up (DNS rebinding), so each connection has one look-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

import httpcore

from shared.webhooks import is_allowed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shared.webhooks import Address, Network

OWNER: ContextVar[str] = ContextVar("owner", default="")
"""The owner of the endpoint that this task calls."""
_THREADS, _PER_OWNER = 32, 4  # look-ups at once: slow name servers of one owner must not take all threads


class ForbiddenAddress(httpcore.ConnectError):
    """The host leads to an address that endpoints may not have."""


class UnknownHost(httpcore.ConnectError):
    """The host has no address."""


class Resolver(Protocol):
    """Finds the addresses of a host."""

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """Return the addresses of a host. Raises UnknownHost."""


class SystemResolver:
    """The look-up of the operating system, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS)
        self._running: Counter[str] = Counter()

    def close(self) -> None:
        """End the threads that wait; a look-up that runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """See Resolver."""
        owner = OWNER.get()
        if self._running[owner] >= _PER_OWNER:
            raise UnknownHost
        self._running[owner] += 1
        found = self._threads.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        # The thread runs on after a timeout of its caller, so its own end counts.
        found.add_done_callback(partial(self._note_end, asyncio.get_running_loop(), owner))
        try:
            return [ip_address(address[4][0]) for address in await asyncio.wrap_future(found)]
        except (OSError, UnicodeError) as error:
            raise UnknownHost from error

    def _note_end(self, loop: asyncio.AbstractEventLoop, owner: str, _: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._running.subtract, {owner: 1})


class GuardedBackend(httpcore.AnyIOBackend):
    """The network of the HTTP client; the name in the certificate is still that of the URL."""

    def __init__(self, resolver: Resolver, allowed: Sequence[Network]) -> None:
        """Allow, besides public addresses, those of the networks in `allowed`."""
        super().__init__()
        self._resolver = resolver
        self._allowed = allowed

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the client's interface)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. Raises ForbiddenAddress if one of them is not allowed."""
        addresses = await self._resolver.resolve(host, port)
        if not addresses:
            raise UnknownHost
        if not all(is_allowed(address, self._allowed) for address in addresses):
            raise ForbiddenAddress
        for address in addresses[:-1]:
            try:
                return await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await super().connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 (the client's interface)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: an endpoint is never a file."""
        del path, timeout, socket_options
        raise ForbiddenAddress
