"""Keeps room in the streams that drop their oldest message when they are full, so that no owner harms another one.

Only the owners with the largest volume lose data: the spare part of their `holdings`, the oldest first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

from services.jobmanager.history.retention import excess_by_owner

if TYPE_CHECKING:
    from services.jobmanager.history.holdings import Holding, Holdings
    from shared.bus import Bus

_LOOK_EVERY_S = 5.0  # a poll, because the broker does not announce how full a stream is
_PAUSE_S = 60.0  # after a search that removed nothing: it reads a whole stream
_FULL, _ROOMY = 0.75, 0.65  # of a stream's limit: where the removal starts and where it ends
_AT_ONCE = 32
log = logging.getLogger(__name__)


class Shares:
    """Keeps room in the streams of some holdings."""

    def __init__(self, bus: Bus, holdings: Holdings) -> None:
        self._bus = bus
        self._holdings = holdings

    async def run(self) -> None:
        """Look every few seconds until cancelled. Raises BrokerUnavailable."""
        while True:
            has_room = await self.make_room()
            await asyncio.sleep(_LOOK_EVERY_S if has_room else _PAUSE_S)

    async def make_room(self) -> bool:
        """Remove the excess if a stream is nearly full; return False if it remains so. Raises BrokerUnavailable."""
        fill = max([await self._fill(stream) for stream in self._holdings.streams])
        if fill < _FULL:
            return True
        found = await self._holdings.read()
        over = _choose(found, _ROOMY / fill)
        for start in range(0, len(over), _AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for holding in over[start : start + _AT_ONCE]:
                    group.create_task(self._holdings.remove(holding), name=f"shares.{holding.key}")
        owners = len({holding.owner for holding in over})
        streams = " ".join(self._holdings.streams)
        log.warning("jobs.shares-trimmed", extra={"streams": streams, "removed": len(over), "owners": owners})
        return bool(over)

    async def _fill(self, stream: str) -> float:
        info = await self._bus.info(stream, {})
        limit = int(info["config"]["max_bytes"])
        return int(info["state"]["bytes"]) / limit if limit > 0 else 0.0


def _choose(found: list[Holding], part: float) -> list[Holding]:
    """Return the holdings to remove, so that this part of the volume of all remains."""
    volumes: Counter[str] = Counter()
    for holding in found:
        volumes[holding.owner] += holding.size
    excess = excess_by_owner(volumes, volumes.total() * part)
    over = []
    for holding in found:
        if holding.spare and excess.get(holding.owner, 0) > 0:
            over.append(holding)
            excess[holding.owner] -= holding.spare
    return over
