"""Fixtures of the tests of the invariants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.load.pictures import picture
from tests.chaos.verdict import ledger
from tests.running import Desk
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.chaos.verdict.ledger import Story


@pytest.fixture
async def desk(bus: Bus, nats_url: str, images: NatsImageStore, stream_settings: StreamSettings) -> Desk:
    """Return a desk with a stored photo."""
    photo = await images.put("inputs", picture((200, 120, 40)))
    return Desk(bus, nats_url, stream_settings, photo.sha256)


@pytest.fixture
def check_all_kept(bus: Bus, stream_settings: StreamSettings) -> Callable[[], Awaitable[dict[str, Story]]]:
    """Return a check that waits until all is settled: every job has ended once, and the view agrees with the events."""

    async def quiet() -> bool:
        return not await ledger.unquiet(bus, stream_settings)

    async def check_all() -> dict[str, Story]:
        await wait_until(quiet, "all is quiet")
        stories = await ledger.read(bus)
        broken = ledger.broken(stories)
        assert not broken, "\n".join(story.describe() for found in broken.values() for story in found)
        return stories

    return check_all
