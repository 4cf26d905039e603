"""Measures the broker: how full its streams are, and whether an operator has paused a consumer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import Gauge

from shared.deliveries import is_paused
from shared.topology import build_topology

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.settings import StreamSettings

FILL = Gauge("artmancer_stream_fill_ratio", "The part of a stream's largest size that is filled, 0 to 1", ("stream",))
PAUSED = Gauge("artmancer_consumer_paused", "1 while a consumer is paused: it delivers nothing", ("consumer",))
_EVERY_S = 15.0  # as often as Prometheus reads; the broker announces neither


class BrokerWatch:
    """The last state of the broker's streams and consumers, as metrics and as sentences."""

    def __init__(self, bus: Bus, settings: StreamSettings) -> None:
        self._bus = bus
        self._topology = build_topology(settings)
        self.sentences: list[str] = []
        """A sentence for each paused consumer."""

    async def run(self) -> None:
        """Measure every fifteen seconds until cancelled. Raises BrokerUnavailable."""
        while True:
            await self.measure()
            await asyncio.sleep(_EVERY_S)

    async def measure(self) -> None:
        """Measure all streams and consumers once. Raises BrokerUnavailable."""
        for stream in self._topology.streams:
            name = str(stream.name)
            info = await self._bus.info(name, {})
            FILL.labels(name).set(info["state"]["bytes"] / info["config"]["max_bytes"])
        sentences = []
        for stream_name, consumer in self._topology.consumers:
            name = str(consumer.durable_name)
            paused = await is_paused(self._bus, stream_name, name)
            PAUSED.labels(name).set(paused)
            if paused:
                resume = f"nats consumer resume {stream_name} {name}"
                sentences.append(f"The consumer {name} is paused, so its messages wait; `{resume}` ends that.")
        self.sentences = sentences
