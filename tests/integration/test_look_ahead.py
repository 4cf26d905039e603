"""Segmentation looks at a photo when it is uploaded, while nothing else needs the processor."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

import pytest

from shared import rpc, subjects
from shared.errors import JobCancelled
from shared.messages import OutlineReply, OutlineRequest
from tests.integration.test_segmentation import ON_THE_CUP, Endless, ask, coffee, running, settings
from tests.unit.services.segmentation.photos import MODELS, needs_weights
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.segmentation.settings import Settings
    from shared.bus import Bus
    from shared.image_store import NatsImageStore

__all__ = ["coffee", "settings"]


async def announce(bus: Bus, images: NatsImageStore, sha256: str) -> None:
    """Announce a photo as the gateway does after an upload."""
    ref = await images.describe(sha256)
    assert ref is not None
    await bus.emit(subjects.PHOTOS, ref.model_dump_json().encode())


async def outlined(bus: Bus, image: str) -> str:
    """Return whether the service has looked at a photo: outlines are computed from what it knows."""
    request = OutlineRequest(request_id="o1", image=image, point=(280, 90))
    return (await rpc.call(bus, subjects.SEG_OUTLINE, request, OutlineReply, timeout_s=30)).status


def threads_of_looks() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("look-ahead")]


@needs_weights
async def test_a_stored_photo_is_looked_at_before_the_first_click(
    bus: Bus, images: NatsImageStore, settings: Settings, coffee: str
) -> None:
    """The pointer finds an object at once."""
    ahead = settings.model_copy(update={"model_dir": MODELS, "look_ahead_load": 1000.0})

    async def is_found() -> bool:
        return await outlined(bus, coffee) == "found"

    async with running(bus, ahead):
        assert await outlined(bus, coffee) == "not-seen"
        await announce(bus, images, coffee)
        await wait_until(is_found, "the photo is looked at")

    await wait_until(lambda: not threads_of_looks(), "the thread has ended")  # the service does not wait for it


@needs_weights
async def test_a_busy_service_looks_at_nothing(
    bus: Bus, images: NatsImageStore, settings: Settings, coffee: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A request would share the processor with a guess."""
    caplog.set_level(logging.INFO, "services.segmentation.look_ahead")
    ahead = settings.model_copy(update={"model_dir": MODELS, "look_ahead_load": 1000.0})
    async with running(bus, ahead):
        request = asyncio.create_task(ask(bus, coffee, "r1", engine="fastsam", points=[ON_THE_CUP]))
        await wait_until(lambda: Endless.begun, "a request is at work")
        await announce(bus, images, coffee)
        await wait_until(lambda: "look-ahead.busy" in caplog.messages, "the photo is passed over")

        assert await outlined(bus, coffee) == "not-seen"
        await bus.emit(subjects.seg_cancel("r1"))
        with pytest.raises(JobCancelled):
            await request
