"""Measures how full the stores are, for the health report and an alert, before they refuse anything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import Gauge

from shared.errors import ArtMancerError
from shared.topology import SESSIONS, bucket_stream

if TYPE_CHECKING:
    from shared.bus import Bus

FILL = Gauge("artmancer_store_fill_ratio", "The part of a store that is filled, 0 to 1", ("store",))
_STORES = {"inputs": bucket_stream("inputs"), "results": bucket_stream("results"), "debug": bucket_stream("debug"),
           "sessions": SESSIONS}  # fmt: skip
_WARNING = 0.8
_EVERY_S = 15.0  # as often as Prometheus reads; the broker announces no sizes
_RETRY_S = 1.0  # at the first start the streams do not exist yet


async def measure(bus: Bus, stream: str) -> tuple[int, int]:
    """Return the largest size of a stream and its size, in bytes. Raises BrokerUnavailable."""
    info = await bus.info(stream, {})
    return int(info["config"]["max_bytes"]), int(info["state"]["bytes"])


class Fullness:
    """The last measured sizes of the stores, as a metric and as sentences."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.sentences: list[str] = []
        """A sentence for each store that is at least four fifths full."""

    async def run(self) -> None:
        """Measure every fifteen seconds until cancelled; after a failure the last sizes stand for a second."""
        while True:
            try:
                await self.measure()
            except ArtMancerError:
                await asyncio.sleep(_RETRY_S)
            else:
                await asyncio.sleep(_EVERY_S)

    async def measure(self) -> None:
        """Measure all stores once. Raises BrokerUnavailable."""
        sentences = []
        for store, stream in _STORES.items():
            capacity, filled = await measure(self._bus, stream)
            FILL.labels(store).set(filled / capacity)
            if filled >= _WARNING * capacity:
                full = f"The store {store} is {filled / capacity:.0%} full"
                sentences.append(f"{full}; raise STREAMS_PICTURE_BYTES or delete images that are no longer needed.")
        self.sentences = sentences
