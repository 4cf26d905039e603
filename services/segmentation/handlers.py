"""Handle requests: fetch the images, run an engine in a thread, shape and store the masks."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from cachetools import LRUCache

from services.segmentation import masks, metrics, prompts
from services.segmentation.backend import Outliner
from services.segmentation.caches.image_cache import Origin
from services.segmentation.geometry import resize, whole_image
from shared import deadlines
from shared.errors import BrokerUnavailable, ImageNotFound, NothingFound
from shared.image_codec import encode_png
from shared.messages import Mask, MaskReply, OutlineReply, SaliencyReply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from services.segmentation.backend import CachedFeatures, Candidate, Checkpoint, Outlined, Prompt
    from services.segmentation.caches.feature_cache import FeatureCache
    from services.segmentation.caches.image_cache import FoundMasks, ImageCache
    from services.segmentation.cancellations import Cancellations
    from services.segmentation.engines import Engines
    from services.segmentation.geometry import Box
    from services.segmentation.saliency import Saliency
    from shared.derived import Derived
    from shared.image_codec import Grey, Rgb
    from shared.image_memory import ImageSizes, ImageSlots
    from shared.messages import MaskRequest, OutlineRequest, SaliencyRequest

log = logging.getLogger(__name__)
_SIZES = 1024  # images whose size is kept, so that the next hover needs no request to the store


class Handlers:
    """Handles as many requests at the same time as there are slots; the others wait."""

    def __init__(
        self,
        slots: ImageSlots,
        images: ImageSizes,
        derived: Derived,
        cache: ImageCache,
        features: FeatureCache,
        found: FoundMasks,
        cancelled: Cancellations,
    ) -> None:
        self._images = images
        self._derived = derived
        self._cache = cache
        self._features = features
        self._found = found
        self._cancelled = cancelled
        self._slots = slots
        self._outlining = asyncio.Semaphore(1)
        self._sizes: LRUCache[str, tuple[int, int]] = LRUCache(_SIZES)

    async def mask(self, engines: Engines, request: MaskRequest) -> MaskReply:
        """Find the object of the prompt. Raises NothingFound, BadInput, ImageNotFound, JobCancelled."""
        started = time.monotonic()
        engine, note = engines.choose(request.engine)
        with self._cancelled.watch(request.request_id) as checkpoint:
            async with self._turn(request.image, request.mask):
                checkpoint()
                image = await self._cache.photo(request.image)
                prompt, by_points = await self._read_prompt(request, image)
                cached = self._features.for_image(request.image)
                segment = partial(engine.segment, image, prompt, cached, checkpoint)
                found = await asyncio.to_thread(_shape_and_encode, segment, request, checkpoint)
            stored = [await self._store(each, request) for each in found]
            await self._record(request, stored, by_points=by_points)
        took_s = time.monotonic() - started
        metrics.MASK_SECONDS.labels(engine.name, metrics.prompt_of(request)).observe(took_s)
        facts = {"request_id": request.request_id, "engine": engine.name, "took_ms": round(took_s * 1000)}
        log.info("mask.found", extra=facts)
        return MaskReply(masks=stored, engine=engine.name, note=note)

    async def outline(self, engines: Engines, request: OutlineRequest) -> OutlineReply:
        """Outline the object at a point if the engine has seen the image. Raises ImageNotFound, BadInput, JobCancelled.

        Outlines are computed one at a time, without the slots of mask requests, so that neither waits long for the
        other.
        """
        engine, _ = engines.choose(request.engine)
        if not isinstance(engine, Outliner):
            return OutlineReply(status="not-seen", engine=engine.name)
        with self._cancelled.watch(request.request_id) as checkpoint:
            width, height = await self._size_of(request.image)
            click = prompts.check_point(request.point, width, height)
            async with self._outlining:
                checkpoint()
                deadlines.check()
                seen = self._features.reader_of(request.image)
                found = await asyncio.to_thread(engine.outline, width, height, click, seen)
        return _outline_reply(found, width, height, engine.name)

    async def _size_of(self, sha256: str) -> tuple[int, int]:
        """Return width and height in pixels. Raises ImageNotFound, BrokerUnavailable."""
        if sha256 not in self._sizes:
            ref = await self._images.describe(sha256)
            if ref is None:
                raise ImageNotFound(f"Image ID not found or expired: {sha256}")
            self._sizes[sha256] = ref.width, ref.height
        return self._sizes[sha256]

    async def saliency(self, saliency: Saliency | None, request: SaliencyRequest) -> SaliencyReply:
        """Return the saliency map at the image's size, or None without weights. Raises ImageNotFound."""
        if saliency is None:
            return SaliencyReply(png=None)
        async with self._turn(request.image):
            image = await self._cache.photo(request.image)
            png = await asyncio.to_thread(_predict_png, saliency, image, self._features.for_image(request.image))
        return SaliencyReply(png=await self._derived.put(png, None, ("inputs", request.image)))

    @asynccontextmanager
    async def _turn(self, *pictures: str | None) -> AsyncIterator[None]:
        """Wait for a slot and for memory. The cached photos are dropped for a picture that needs most of it."""
        async with self._slots.enter(*pictures) as is_large:
            deadlines.check()
            if is_large:
                self._cache.clear()
            yield

    async def _store(self, found: _Encoded, request: MaskRequest) -> Mask:
        png = await self._derived.put(found.png, None, ("inputs", request.image))
        if not request.measures:
            return Mask(png=png, score=found.score)
        return Mask(png=png, score=found.score, box=found.box, area=found.area)

    async def _record(self, request: MaskRequest, found: list[Mask], *, by_points: bool) -> None:
        shaped = bool(request.grow_px or request.feather_px)
        origins = ((mask.png.sha256, Origin(by_points and rank == 0, shaped)) for rank, mask in enumerate(found))
        await asyncio.gather(*(self._found.add(request.image, mask, origin) for mask, origin in origins))

    async def _read_prompt(self, request: MaskRequest, image: Rgb) -> tuple[Prompt, bool]:
        """Return the prompt, and whether its points alone give the same best mask."""
        needed = request.mask is not None and not (request.points or request.box or request.strokes)
        guidance = await self._cache.mask(request.mask) if needed and request.mask else None
        height, width = image.shape[:2]
        previous, by_points = await self._read_previous(request)
        return prompts.from_request(request, width, height, guidance, previous), by_points

    async def _read_previous(self, request: MaskRequest) -> tuple[Grey | None, bool]:
        """Return the previous mask if its last point can correct it, and whether the points alone give the same mask.

        The points replace a mask that was found by points if it is not stored, if it was grown or feathered, or if the
        last point takes back an earlier one.
        """
        if request.previous is None:
            return None, bool(request.points)
        origin = await self._found.origin(request.image, request.previous)
        by_points = origin is not None and origin.by_points
        if by_points and origin and (origin.shaped or prompts.takes_back(request)):
            return None, True
        try:
            return await self._cache.mask(request.previous), by_points
        except (ImageNotFound, BrokerUnavailable):
            if not by_points:
                raise
            return None, True


class _Encoded(NamedTuple):
    """A mask as a PNG, its score, and box and share of its white pixels."""

    png: bytes
    score: float
    box: Box | None
    area: float


def _shape_and_encode(
    segment: Callable[[], list[Candidate]], request: MaskRequest, checkpoint: Checkpoint
) -> list[_Encoded]:
    """Run the engine; return the masks as files, best first."""
    found = []
    for candidate in segment():
        checkpoint()
        shaped = masks.feather(masks.grow(candidate.mask, request.grow_px), request.feather_px)
        if shaped.any():
            area = float(np.count_nonzero(shaped > masks.INSIDE)) / shaped.size
            found.append(_Encoded(encode_png(shaped), candidate.score, masks.bbox(shaped), area))
    if not found:
        raise NothingFound(f"No masks found: the mask is empty after shrinking it by {-request.grow_px} pixels.")
    return found


def _outline_reply(found: Outlined | None, width: int, height: int, engine: str) -> OutlineReply:
    """Return the answer for an image of this size in pixels."""
    if found is None:
        return OutlineReply(status="not-seen", engine=engine)
    polygons = masks.trace(found.mask, width, height)
    if not polygons:
        return OutlineReply(status="nothing", engine=engine)
    return OutlineReply(status="found", outline=polygons, score=min(1.0, max(0.0, found.score)), engine=engine)


def _predict_png(saliency: Saliency, image: Rgb, cached: CachedFeatures) -> bytes:
    height, width = image.shape[:2]
    return encode_png(resize(saliency.predict(image, cached, whole_image(image)), width, height))
