"""Segmentation looks at a photo when it is uploaded, while nothing else needs the processor."""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from services.segmentation.caches.feature_cache import FeatureCache
from services.segmentation.caches.image_cache import ImageCache
from services.segmentation.look_ahead import LookAhead
from shared import rpc, subjects
from shared.bus import StoredMessage
from shared.derived import Derived
from shared.errors import JobCancelled
from shared.image_memory import ImageSlots
from shared.messages import ImageRef, OutlineReply, OutlineRequest
from tests.fakes import FakeImageStore
from tests.integration.segmentation.test_service import COFFEE, ON_THE_CUP, Endless, ask, coffee, running, settings
from tests.unit.services.segmentation.photos import MODELS, needs_weights
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from services.segmentation.backend import CachedFeatures
    from services.segmentation.settings import Settings
    from shared.bus import Bus
    from shared.image_store import Bucket, NatsImageStore

__all__ = ["coffee", "settings"]


async def announce(bus: Bus, images: NatsImageStore, sha256: str) -> None:
    """Announce a photo as the gateway does after an upload."""
    ref = await images.describe(sha256)
    assert ref is not None
    await bus.emit(subjects.PHOTOS, ref.model_dump_json().encode())


async def outlined(bus: Bus, image: str) -> str:
    """Return whether the service has looked at a photo: outlines are computed from its cache."""
    request = OutlineRequest(request_id="o1", image=image, point=(280, 90))
    return (await rpc.call(bus, subjects.SEG_OUTLINE, request, OutlineReply, timeout_s=TIMEOUT_S)).status


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


class NotingFeatures(FeatureCache):
    """Computes everything again, and notes the niceness of the threads that do it."""

    def __init__(self) -> None:
        super().__init__(FakeImageStore(), 0)
        self.noted: list[int] = []

    def for_image(self, image_id: str) -> CachedFeatures:
        """See FeatureCache."""
        return lambda name, compute: self._compute(f"{image_id}/{name}", compute)

    def _compute(self, key: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        assert key
        self.noted.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return compute()


@needs_weights
@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own")
async def test_a_look_yields_but_does_not_starve(bus: Bus) -> None:
    """A request waits for its end: a thread of the lowest priority needs seconds for that on a busy machine."""
    store, features = FakeImageStore(), NotingFeatures()
    ref = await store.put("inputs", COFFEE)
    slots, photos, derived = ImageSlots(store, 1, 10**9), ImageCache(store, 10**9), Derived(bus, store)
    ahead = LookAhead(slots, photos, features, derived, MODELS)
    looking = asyncio.create_task(ahead.run(1000.0), name="look-ahead")
    ahead.note(StoredMessage(0, subjects.PHOTOS, ref.model_dump_json(exclude_none=True).encode()))
    await wait_until(lambda: features.noted, "it looks at the photo")
    looking.cancel()
    await asyncio.wait({looking})
    await wait_until(lambda: not threads_of_looks(), "its thread has ended")

    assert features.noted == [min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)]


class FaultyStore(FakeImageStore):
    """A store with one photo; its bytes make a library raise an error of its own."""

    asked = 0

    async def describe(self, sha256: str, bucket: Bucket = "inputs") -> ImageRef | None:
        """See DescribedStore."""
        return ImageRef(bucket=bucket, sha256=sha256, content_type="image/jpeg", width=4, height=3, size_bytes=9)

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """Raise an error that a library may raise."""
        self.asked += 1
        raise struct.error(f"{bucket} {sha256}")


async def test_a_photo_that_breaks_a_library_ends_no_service(bus: Bus, settings: Settings) -> None:
    """The look is a guess; a request for the same photo reports the failure."""
    store = FaultyStore()
    slots = ImageSlots(store, 1, 10**9)
    ahead = LookAhead(slots, ImageCache(store, 0), FeatureCache(store, 0), Derived(bus, store), settings.model_dir)
    looking = asyncio.create_task(ahead.run(1000.0), name="look-ahead")
    ref = await store.describe("0" * 64)
    assert ref is not None
    for number in (1, 2):
        ahead.note(StoredMessage(0, subjects.PHOTOS, ref.model_dump_json().encode()))
        await wait_until(lambda number=number: store.asked == number, "it looks at the photo")  # type: ignore[misc]

    assert not looking.done()
    looking.cancel()
    await asyncio.wait({looking})
