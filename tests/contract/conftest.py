"""What the contract suite shares: a gateway over a real broker, and a worker played by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.settings import NatsSettings
from tests.gateway import WorkerByHand, gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client


@pytest.fixture
async def client(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[Client]:
    """The deployed client's view of a running gateway."""
    assert bus.connected
    async with gateway(NatsSettings(url=nats_url), stream_settings, heartbeat_s=0.2, result_wait_s=0.3) as client:
        yield client


@pytest.fixture
def worker(bus: Bus, images: NatsImageStore) -> WorkerByHand:
    """Nobody else works on the jobs of these tests."""
    return WorkerByHand(bus, images)
