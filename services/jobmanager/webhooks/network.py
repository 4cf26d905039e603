"""Opens connections to endpoints: only to allowed addresses, to the very address that was checked, for short answers.

A name could lead to another address at a second look-up (DNS rebinding), so each connection has one look-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

import httpcore

from shared.webhooks import is_allowed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future
    from typing import Any

    from shared.webhooks import Address, Network

OWNER: ContextVar[str] = ContextVar("owner", default="")
"""The owner of the endpoint that this task calls."""
ANSWER_BYTES = 16 * 1024
_READ_BYTES = 4 * 1024
"""At once: thousands of tiny headers or chunks are parsed without a pause, and all services of this process wait."""
_THREADS, _PER_OWNER = 32, 4


class ForbiddenAddress(httpcore.ConnectError):
    """The host leads to an address that endpoints may not have."""


class UnknownHost(httpcore.ConnectError):
    """The host has no address."""


class Resolver(Protocol):
    """Finds the addresses of a host."""

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """Return the addresses of a host, at least one. Raises UnknownHost."""


class SystemResolver:
    """The look-up of the operating system, in threads of its own.

    An owner has a few look-ups at once and one for each host, so that slow name servers of one owner take few threads,
    and one slow name server delays no other host.
    """

    def __init__(self, look_up: Callable[..., list[Any]] = socket.getaddrinfo) -> None:
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(_THREADS)
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._running: dict[tuple[str, str, int], Future[list[Address]]] = {}

    def close(self) -> None:
        """End the threads that wait; a look-up that runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """See Resolver."""
        key = OWNER.get(), host, port
        places = self._places.setdefault(OWNER.get(), asyncio.Semaphore(_PER_OWNER))
        while (found := self._running.get(key)) is None:
            await places.acquire()
            if key in self._running:
                places.release()
            else:
                self._begin(key, places)
        if not (addresses := await asyncio.shield(asyncio.wrap_future(found))):
            raise UnknownHost
        return addresses

    def _begin(self, key: tuple[str, str, int], places: asyncio.Semaphore) -> None:
        """Start a look-up. Its thread runs on after a timeout of its callers, so its own end gives the place back."""
        loop = asyncio.get_running_loop()

        def note_end(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._end, key, places)

        _, host, port = key
        self._running[key] = self._threads.submit(self._find_addresses, host, port)
        self._running[key].add_done_callback(note_end)

    def _find_addresses(self, host: str, port: int) -> list[Address]:
        try:
            return [ip_address(each[4][0]) for each in self._look_up(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError):
            return []  # raised here, it would be logged where all callers have given up

    def _end(self, key: tuple[str, str, int], places: asyncio.Semaphore) -> None:
        del self._running[key]
        places.release()


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
        if not all(is_allowed(address, self._allowed) for address in addresses):
            raise ForbiddenAddress
        for address in addresses[:-1]:
            try:
                found = await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
            return ShortAnswers(found)
        return ShortAnswers(await super().connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options))

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 (the client's interface)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: an endpoint is never a file."""
        del path, timeout, socket_options
        raise ForbiddenAddress


class ShortAnswers(httpcore.AsyncNetworkStream):
    """A connection that reads at most ANSWER_BYTES after a request, in small parts.

    The client itself has no limit: informational answers without end, or a body of chunks with one byte each, would
    take all time of the process.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = ANSWER_BYTES

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 (as above)
        """Read a part of the answer. Raises RemoteProtocolError if it is too long."""
        if self._left <= 0:
            raise httpcore.RemoteProtocolError("The answer is too long.")
        part = await self._stream.read(min(max_bytes, _READ_BYTES), timeout)
        self._left -= len(part)
        return part

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 (as above)
        """Write a part of a request; its answer may be as long again."""
        self._left = ANSWER_BYTES
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (as above)
    ) -> httpcore.AsyncNetworkStream:
        """Return this connection with TLS."""
        return ShortAnswers(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return the options that the client sets on the connection itself."""
        return self._stream.get_extra_info(info)
