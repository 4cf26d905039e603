"""Checks whether the broker stores jobs as safely as declared."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from shared import declaring
from shared.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus import Bus
    from shared.settings import StreamSettings

_VALID_S = 10.0


class Durability:
    """Caches the result of `declaring.find_weaknesses` for ten seconds."""

    def __init__(self, bus: Bus, streams: StreamSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._streams = streams
        self._clock = clock
        self._lock = asyncio.Lock()
        self._cached: list[str] = []
        self._valid_until = float("-inf")

    async def weaknesses(self) -> list[str]:
        """Return a sentence for each stream that is weaker than declared, or one if the broker does not answer."""
        async with self._lock:
            if self._clock() >= self._valid_until:
                try:
                    self._cached = await declaring.find_weaknesses(self._bus, self._streams)
                except BrokerUnavailable as error:
                    return [error.message]
                self._valid_until = self._clock() + _VALID_S
            return self._cached
