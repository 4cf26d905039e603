"""What the tests of whole jobs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.settings import NatsSettings
from tests.gateway import WorkerByHand, gateway
from tests.running import Desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client

CAT = Path(__file__).parents[2] / "services/gateway/static/samples/cat.jpg"


@pytest.fixture
async def desk(bus: Bus, nats_url: str, images: NatsImageStore, stream_settings: StreamSettings) -> Desk:
    """Submits jobs on a photo that is stored already."""
    photo = await images.put("inputs", CAT.read_bytes())
    return Desk(bus, nats_url, stream_settings, photo.sha256)


@pytest.fixture
async def client(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[Client]:
    """A program's view of a running gateway."""
    assert bus.connected
    async with gateway(NatsSettings(url=nats_url), stream_settings, heartbeat_s=0.2, result_wait_s=0.3) as client:
        yield client


@pytest.fixture
def worker(bus: Bus, images: NatsImageStore) -> WorkerByHand:
    """Plays job manager and worker, where a test starts neither."""
    return WorkerByHand(bus, images)
