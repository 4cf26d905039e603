"""The memory that pictures take in a service: an estimate before their bytes are fetched, and its return afterwards."""

from __future__ import annotations

import asyncio
import ctypes
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

from shared.deep_pixels import KEPT
from shared.image_formats import MAX_PIXELS
from shared.memory_budget import MemoryBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.messages import ImageRef

# Bytes a pixel. Most pictures take 7 to decode (Pillow's copy and the array). A progressive CMYK JPEG takes the most: 8
# for libjpeg's coefficients and 4 in Pillow. One more is for a mask that is decoded already.
_PIXEL_BYTES: Final = 13
# Their decoders hold planes, a frame, the canvas of an animation, and a copy of the result. Most take 7 here too.
_VIDEO_PIXEL_BYTES: Final = 20
_DEEP_PIXEL_BYTES: Final = 24  # as read, upright, with 8 bits and on white; at most half as many pixels are read so
_VIDEO_TYPES: Final = frozenset({"image/webp", "image/avif", "image/heic"})
_LARGEST_FILE_BYTES: Final = 64 * 1024**2
LARGEST_BYTES: Final = _PIXEL_BYTES * MAX_PIXELS + _LARGEST_FILE_BYTES
"""The estimate for the largest picture that is accepted."""
_TRIMS_FROM_BYTES: Final = 100_000_000
_RETURN_AFTER_S: Final = 1.0  # without a request; the next one would take the memory again
_C_LIBRARY = ctypes.CDLL(None)
_HAS_TRIM = hasattr(_C_LIBRARY, "malloc_trim")  # not on macOS and in Alpine Linux


class ImageSizes(Protocol):
    """States the sizes of stored pictures without their bytes."""

    async def describe(self, sha256: str) -> ImageRef | None:
        """Return the facts in the entry of an image in `inputs`; None without one. Raises BrokerUnavailable."""


class ImageSlots:
    """Admits requests within a number and a memory budget, and returns the memory when none runs.

    A request must decode its pictures one after another, masks first.
    """

    def __init__(self, sizes: ImageSizes, at_once: int, memory_bytes: int) -> None:
        self._sizes = sizes
        self._slots = asyncio.Semaphore(at_once)
        self._memory = MemoryBudget(memory_bytes)
        self._half_bytes = memory_bytes // 2
        self._return: asyncio.TimerHandle | None = None
        self.entered = 0
        """Requests inside `enter`: those that wait, and those that run."""

    @asynccontextmanager
    async def enter(self, *pictures: str | None, least_bytes: int = 0) -> AsyncIterator[bool]:
        """Wait for a slot and for the memory that the pictures need. Yield whether that is more than half of all.

        A picture of unknown size, as after `nats obj put`, counts as the largest. Raises BrokerUnavailable, TooLarge.
        """
        self.entered += 1
        try:
            async with self._slots:
                refs = [await self._sizes.describe(sha256) for sha256 in pictures if sha256 is not None]
                needed_bytes = max([least_bytes, *map(picture_bytes, refs)])
                try:
                    async with self._memory.reserve(needed_bytes):
                        if needed_bytes > _TRIMS_FROM_BYTES:
                            give_back()  # an encoder before it may have left hundreds of megabytes in small blocks
                        yield needed_bytes > self._half_bytes
                finally:
                    self._return_soon()
        finally:
            self.entered -= 1

    def _return_soon(self) -> None:
        """Return the memory after the answer, so that no caller waits for it."""
        if self._return is not None:
            self._return.cancel()
        self._return = asyncio.get_running_loop().call_later(_RETURN_AFTER_S, self._return_now)

    def _return_now(self) -> None:
        if not self._memory.reserved_bytes:
            give_back()


def give_back() -> None:
    """Return freed memory to the system.

    malloc keeps freed blocks below 32 MB for reuse: after one photo of 49 megapixels a service kept up to 800 MB. The
    call takes milliseconds; make it when nothing else runs, or when much memory is about to be taken.
    """
    if _HAS_TRIM:
        _C_LIBRARY.malloc_trim(0)


def picture_bytes(ref: ImageRef | None) -> int:
    """Return the memory that a stored picture takes, from its file to its pixels; None: its size is unknown."""
    if ref is None:
        return LARGEST_BYTES
    pixel_bytes = _VIDEO_PIXEL_BYTES if ref.content_type in _VIDEO_TYPES else _PIXEL_BYTES
    if KEPT in (ref.notes or ()):
        pixel_bytes = _DEEP_PIXEL_BYTES
    return min(LARGEST_BYTES, ref.width * ref.height * pixel_bytes + ref.size_bytes)
