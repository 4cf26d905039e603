"""Assembles an evicted result: lays the patches of its edits over the picture before them, and encodes.

The reply has exactly the worker's bytes, which the hash verifies; otherwise the request fails.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import takewhile
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from shared import deadlines, png, png_chunks
from shared.deep_pixels import KEPT
from shared.errors import ImageNotFound
from shared.image_codec import decode_photo
from shared.image_memory import picture_bytes
from shared.image_store import digest
from shared.messages import ImageReply

if TYPE_CHECKING:
    from shared.deep_pixels import Deep
    from shared.derived import Derived
    from shared.image_codec import Rgb, Rgba
    from shared.image_memory import ImageSlots
    from shared.image_store import ImageStore
    from shared.messages import AssembleRequest, ImageRef, Patch

log = logging.getLogger(__name__)
_COLOUR_TYPE, _RGBA = 9, 6  # the offset of the colour type in the header of a PNG, and its value for RGBA
_COLOURS, _WITH_ALPHA = 3, 4  # channels


class Assembler:
    """Assembles results and keeps them in `cache`. Not for results that are stored."""

    def __init__(self, images: ImageStore, derived: Derived, slots: ImageSlots) -> None:
        self._images = images
        self._derived = derived
        self._slots = slots
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by the result's hash

    async def assemble(self, request: AssembleRequest) -> ImageReply:
        """Return the result, with the same bytes.

        Raises ImageNotFound if a part is missing or the bytes differ, BadImage, TooLarge, BrokerUnavailable.
        """
        ref = request.result.model_copy(update={"bucket": "cache"})
        async with self._locks.setdefault(ref.sha256, asyncio.Lock()):
            if await self._derived.has(ref.sha256):  # true also if another request made it while this one waited
                return ImageReply(png=ref)
            async with self._slots.enter(least_bytes=_estimate_bytes(request.base)):
                deadlines.check()
                data = await self._make(request)
                # The patch is deleted with its job, and the picture with the patch.
                await self._derived.put(data, ref, ("results", request.patches[-1].image.sha256))
        return ImageReply(png=ref)

    async def _make(self, request: AssembleRequest) -> bytes:
        base, result = request.base, request.result.sha256
        canvas = await asyncio.to_thread(_decode, await self._images.get(base.bucket, base.sha256))
        data = b""
        for patch in request.patches:
            deadlines.check()
            data = await self._images.get(patch.image.bucket, patch.image.sha256)
            await asyncio.to_thread(_lay, canvas, data, patch)
        made = await asyncio.to_thread(_encode, canvas, data)
        if await digest(made) != result:  # for example after an update with another encoder
            log.warning("assembly.differs", extra={"sha256": result, "patches": len(request.patches)})
            raise ImageNotFound
        return made


def _estimate_bytes(base: ImageRef) -> int:
    """Return the memory that an assembly takes. A result does not state its depth, so it counts as one of 16 bits."""
    return picture_bytes(base if base.bucket == "inputs" else base.model_copy(update={"notes": [KEPT]}))


def _decode(data: bytes) -> Rgb | Rgba | Deep:
    """Return the values that an edit keeps outside its region. Raises BadImage, TooLarge."""
    pixels = decode_photo(data, with_alpha=True, with_depth=True).pixels
    return pixels if pixels.flags.writeable else pixels.copy()


def _lay(canvas: Rgb | Rgba | Deep, data: bytes, place: Patch) -> None:
    """Lay a patch over its place. Raises ImageNotFound for one that does not fit, BadImage."""
    patch = _decode(data)
    height, width, channels = patch.shape
    under = canvas[place.y : place.y + height, place.x : place.x + width]
    if under.shape[:2] != (height, width) or under.shape[2] < channels or under.dtype != patch.dtype:
        log.warning("assembly.misfit", extra={"sha256": place.image.sha256})
        raise ImageNotFound
    under[..., :channels] = patch
    under[..., channels:] = np.iinfo(under.dtype).max  # an opaque patch is decoded without its opacity


def _encode(canvas: Rgb | Rgba | Deep, patch: bytes) -> bytes:
    """Encode the canvas with the channels and metadata of its last patch; a worker writes the same ones to both files.

    After an edit that made the picture opaque, it has no fourth channel.
    """
    header, *behind = png_chunks.find_chunks(patch)
    channels = _WITH_ALPHA if header.body[_COLOUR_TYPE] == _RGBA else _COLOURS
    before = takewhile(lambda chunk: chunk.kind != b"IDAT", behind)
    return png.pack(canvas[..., :channels], *((chunk.kind, bytes(chunk.body)) for chunk in before))
