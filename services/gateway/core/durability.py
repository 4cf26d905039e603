"""Whether the broker keeps accepted work as safely as declared; looked at now and then, however often somebody asks."""

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
    """Remembers for ten seconds what `declaring.find_weaknesses` has found."""

    def __init__(self, bus: Bus, streams: StreamSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._streams = streams
        self._clock = clock
        self._looking = asyncio.Lock()
        self._found: list[str] = []
        self._until = float("-inf")

    async def weaknesses(self) -> list[str]:
        """Return a sentence for each stream that is weaker than declared, or that the broker does not answer."""
        async with self._looking:
            if self._clock() >= self._until:
                try:
                    self._found = await declaring.find_weaknesses(self._bus, self._streams)
                except BrokerUnavailable as error:
                    return [error.message]
                self._until = self._clock() + _VALID_S
            return self._found
