"""Decode each image once, so that the second click on a photo transfers a few hundred bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from services.segmentation.array_cache import ArrayCache
from shared import metrics
from shared.errors import ImageNotFound
from shared.image_codec import decode_mask, decode_photo

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb
    from shared.image_store import ImageStore


class ImageCache:
    """Reads the bucket `inputs` and keeps decoded photos up to a number of bytes."""

    def __init__(self, images: ImageStore, cache_bytes: int) -> None:
        self._images = images
        self._decoded = ArrayCache(cache_bytes)

    async def photo(self, sha256: str) -> Rgb:
        """Return a decoded photo; the array is shared and read-only. Raises ImageNotFound, BadImage, TooLarge."""
        known = self._decoded.get(sha256)
        metrics.count_lookup("photo", hit=known is not None)
        if known is None:
            known = (await asyncio.to_thread(decode_photo, await self._bytes(sha256))).rgb
            self._decoded.put(sha256, known)
        return known

    async def mask(self, sha256: str) -> Grey:
        """Return a decoded mask. Raises ImageNotFound, BadImage, TooLarge."""
        return await asyncio.to_thread(decode_mask, await self._bytes(sha256))

    async def _bytes(self, sha256: str) -> bytes:
        try:
            return await self._images.get("inputs", sha256)
        except ImageNotFound as error:
            # The deployed client searches for "Image ID not found" and then uploads the image again.
            raise ImageNotFound(f"Image ID not found or expired: {sha256}") from error
