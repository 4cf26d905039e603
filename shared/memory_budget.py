"""A budget in bytes: the concurrent work of a process takes no more memory than its container has."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.errors import TooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_MIB = 1024**2


class MemoryBudget:
    """A weighted semaphore: each user reserves the bytes that its work will take at most.

    Reservations are granted in the order of their requests, so that small ones never starve a large one. Do not reserve
    again inside a reservation: two users that each wait for more would wait for ever.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._reserved = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def reserved_bytes(self) -> int:
        """Bytes that are reserved now."""
        return self._reserved

    @property
    def waiting(self) -> int:
        """Requests that wait for their bytes."""
        return len(self._waiting)

    @asynccontextmanager
    async def reserve(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait for the bytes, and hold them during the block; a cancelled wait leaves the queue.

        Raises TooLarge at once for more bytes than the budget has.
        """
        if size_bytes > self._total:
            raise TooLarge(
                f"This needs {_mebibytes(size_bytes)} MiB of memory, and {_mebibytes(self._total)} MiB are allowed; "
                "send smaller images."
            )
        await self._take(size_bytes)
        try:
            yield
        finally:
            self._give_back(size_bytes)

    async def _take(self, size_bytes: int) -> None:
        if not self._waiting and self._reserved + size_bytes <= self._total:
            self._reserved += size_bytes
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size_bytes, granted)
        self._waiting.append(entry)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():  # granted in the same turn of the loop as the cancel
                self._give_back(size_bytes)
            else:
                with contextlib.suppress(ValueError):  # `_grant` has passed over it already
                    self._waiting.remove(entry)
                self._grant()  # those behind it may fit
            raise

    def _give_back(self, size_bytes: int) -> None:
        self._reserved -= size_bytes
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._reserved + self._waiting[0][0] <= self._total:
            size_bytes, granted = self._waiting.popleft()
            if not granted.cancelled():
                self._reserved += size_bytes
                granted.set_result(None)


def _mebibytes(size_bytes: int) -> int:
    return -(-size_bytes // _MIB)
