"""The gateway's knowledge of its streams: used for each submission, read from the broker every ten seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.core.durability import Durability
from shared.topology import JOB_DLQ
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.stack.nats_server import NatsServer
    from shared.bus import Bus
    from shared.settings import StreamSettings


async def test_the_streams_are_looked_at_every_ten_seconds(bus: Bus, stream_settings: StreamSettings) -> None:
    """A weakness appears and disappears with the first look after the change."""
    now = 0.0
    durability = Durability(bus, stream_settings, clock=lambda: now)
    before = await durability.weaknesses()
    await bus.client.jetstream().delete_stream(JOB_DLQ)
    now = 9.9
    soon = await durability.weaknesses()
    now = 10.0
    later = await durability.weaknesses()

    assert (before, soon) == ([], [])
    assert later == ["JOB_DLQ is missing; start the job manager, which creates it."]


async def test_a_broker_that_is_away_is_told_at_once_and_not_remembered(
    nats_server: NatsServer, bus: Bus, stream_settings: StreamSettings
) -> None:
    """A broker that does not reply reveals nothing about the streams."""
    durability = Durability(bus, stream_settings, clock=lambda: 0.0)
    await nats_server.kill()
    await wait_until(lambda: not bus.is_connected, "the client has noticed")
    away = await durability.weaknesses()
    await nats_server.start()
    await bus.up.wait()

    assert away == ["The message broker is not available."]
    assert await durability.weaknesses() == []
