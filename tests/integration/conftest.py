"""What the tests of whole jobs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.running import Desk

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings

CAT = Path(__file__).parents[2] / "services/gateway/static/samples/cat.jpg"


@pytest.fixture
async def desk(bus: Bus, nats_url: str, images: NatsImageStore, stream_settings: StreamSettings) -> Desk:
    """Submits jobs on a photo that is stored already."""
    photo = await images.put("inputs", CAT.read_bytes())
    return Desk(bus, nats_url, stream_settings, photo.sha256)
