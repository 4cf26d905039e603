"""Finds the addresses of an endpoint's host."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from typing import Any

    from shared.webhooks import Address

OWNER: ContextVar[str] = ContextVar("owner", default="")
"""The owner of the endpoint that this task calls."""
_THREADS, _PER_OWNER = 32, 4


class UnknownHost(Exception):
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
        """Start a look-up.

        Its thread continues after a timeout of its callers, so the end of the thread frees the place.
        """
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
            return []  # if it were raised here, asyncio would log it after all callers have timed out

    def _end(self, key: tuple[str, str, int], places: asyncio.Semaphore) -> None:
        del self._running[key]
        places.release()
