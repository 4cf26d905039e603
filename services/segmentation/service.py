"""The segmentation service: connects the engines to the bus."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from services.segmentation import saliency
from services.segmentation.caches.feature_cache import FeatureCache
from services.segmentation.caches.image_cache import FoundMasks, ImageCache
from services.segmentation.cancellations import Cancellations
from services.segmentation.engines import Engines
from services.segmentation.handlers import Handlers
from services.segmentation.look_ahead import LookAhead
from shared import declaring, rpc, subjects
from shared.bus import StoredMessage, open_bus
from shared.derived import Derived
from shared.image_codec import probe_in_thread
from shared.image_formats import report_missing_decoders
from shared.image_memory import ImageSlots
from shared.image_store import NatsImageStore
from shared.lifecycle import run_unless_stopped
from shared.listener import serve_probes
from shared.messages import HealthReply, HealthRequest, MaskRequest, OutlineRequest, SaliencyRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.segmentation.saliency import Saliency
    from services.segmentation.settings import Settings
    from shared.bus import Bus
    from shared.probes import Probes

NAME = "segmentation"
_OUTLINES = 64  # waiting requests: a gateway sends one for each user
log = logging.getLogger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve requests until `stop` is set. After the drain time, open requests end at their next checkpoint."""
    async with serve_probes(settings.probe, stop) as probes:
        await _serve(settings, stop, probes)


async def _serve(settings: Settings, stop: asyncio.Event, probes: Probes) -> None:
    engines = await asyncio.to_thread(Engines, settings)
    saliency_network = await asyncio.to_thread(saliency.load, settings.model_dir)
    log.info("engines.ready", extra=engines.describe())
    cancelled = Cancellations()

    def cancel(message: StoredMessage) -> None:
        cancelled.cancel(subjects.request_of_cancel(message.subject))

    async with open_bus(settings.nats, NAME, wait=False) as bus:
        probes.require(bus.ping)
        await run_unless_stopped(stop, declaring.wait_until_declared(bus))
        images = NatsImageStore(bus, probe_in_thread)
        features = FeatureCache(images, settings.evidence_cache_bytes)
        photos = ImageCache(images, settings.image_cache_bytes)
        slots = ImageSlots(images, settings.concurrency, settings.memory_bytes)
        derived = Derived(bus, images)
        handlers = Handlers(slots, images, derived, photos, features, FoundMasks(images), cancelled)
        ahead = LookAhead(slots, photos, features, derived, settings.model_dir)
        endpoints = _endpoints(settings, engines, saliency_network, handlers)
        named = {"instance": settings.instance, **engines.describe()}
        served = rpc.serve(bus, NAME, endpoints, drain_s=settings.drain_s, metadata=named)
        async with bus.subscribe(subjects.SEG_CANCEL, cancel), served, _looking_ahead(bus, settings, engines, ahead):
            probes.mark_started()
            await stop.wait()


@asynccontextmanager
async def _looking_ahead(bus: Bus, settings: Settings, engines: Engines, ahead: LookAhead) -> AsyncIterator[None]:
    """Look at uploaded photos while the block runs, if the default engine begins with the saliency of a photo."""
    if not settings.look_ahead_load or engines.choose("default")[0].name != "grabcut":
        yield
        return
    async with bus.subscribe(subjects.PHOTOS, ahead.note, NAME), asyncio.TaskGroup() as group:
        looking = group.create_task(ahead.run(settings.look_ahead_load), name="look-ahead")
        yield
        looking.cancel()


def _endpoints(
    settings: Settings, engines: Engines, saliency_network: Saliency | None, handlers: Handlers
) -> list[rpc.Endpoint[Any]]:
    missing = report_missing_decoders()

    async def health(_: HealthRequest) -> HealthReply:
        detail = {**engines.describe(), **missing}
        return HealthReply(service=NAME, instance=settings.instance, status="healthy", detail=detail)

    limit = settings.concurrency + settings.waiting
    return [
        rpc.Endpoint(subjects.SEG_MASK, MaskRequest, partial(handlers.mask, engines), limit),
        rpc.Endpoint(subjects.SEG_OUTLINE, OutlineRequest, partial(handlers.outline, engines), _OUTLINES),
        rpc.Endpoint(subjects.SEG_SALIENCY, SaliencyRequest, partial(handlers.saliency, saliency_network), limit),
        rpc.Endpoint(subjects.health(NAME), HealthRequest, health, everywhere=True),
    ]
