"""Read images and masks. Each photo is decoded once, so a second click transfers only a few hundred bytes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from services.segmentation.caches.array_cache import ArrayCache
from shared import metrics
from shared.colour import to_srgb
from shared.errors import ArtMancerError, BadInput, ImageNotFound
from shared.image_codec import decode_mask, decode_photo

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb
    from shared.image_store import ImageStore, NamedStore

log = logging.getLogger(__name__)
_BUCKET: Final = "cache"
_STORE_TIMEOUT_S = 2.0  # a record only saves time: a request also works without it


class ImageCache:
    """Reads the bucket `inputs` and keeps decoded photos, in sRGB and up to a number of bytes."""

    def __init__(self, images: ImageStore, cache_bytes: int) -> None:
        self._images = images
        self._decoded = ArrayCache(cache_bytes)

    async def photo(self, sha256: str) -> Rgb:
        """Return a decoded photo; the array is shared and read-only. Raises ImageNotFound, BadImage, TooLarge."""
        known = self._decoded.get(sha256)
        metrics.count_lookup("photo", hit=known is not None)
        if known is not None:
            return known
        photo = await asyncio.to_thread(_decode, await self._bytes(sha256))
        self._decoded.put(sha256, photo)
        return photo

    def clear(self) -> None:
        """Drop all photos."""
        self._decoded.clear()

    async def mask(self, sha256: str) -> Grey:
        """Return a decoded mask. Raises ImageNotFound, BadImage, TooLarge."""
        return await asyncio.to_thread(decode_mask, await self._bytes(sha256))

    async def _bytes(self, sha256: str) -> bytes:
        try:
            return await self._images.get("inputs", sha256)
        except ImageNotFound as error:
            # The deployed client searches for "Image ID not found" and then uploads the image again.
            raise ImageNotFound(f"Image ID not found or expired: {sha256}") from error


class Origin(NamedTuple):
    """The way in which a mask was found in an image."""

    by_points: bool
    """The points alone give the same mask."""
    shaped: bool
    """The mask was grown or feathered, so no click can correct it."""


class FoundMasks:
    """Records in which images each mask was found, for all replicas, as long as the bucket `cache` keeps it.

    One record names an image of the mask. For each image, another record holds how the mask was found there.
    """

    def __init__(self, store: NamedStore) -> None:
        self._store = store

    async def add(self, image: str, mask: str, origin: Origin) -> None:
        """Record that the mask was found in the image. If the broker does not store the record, this is only logged."""
        try:
            async with asyncio.timeout(_STORE_TIMEOUT_S):
                await asyncio.gather(
                    self._store.put_named(_BUCKET, f"{image}/mask-{mask}", _pack(origin)),
                    self._store.put_named(_BUCKET, f"mask-{mask}", image.encode()),
                )
        except (ArtMancerError, TimeoutError) as error:
            log.warning("masks.not-recorded", extra={"mask": mask, "reason": str(error) or type(error).__name__})

    async def origin(self, image: str, mask: str) -> Origin | None:
        """Return how the mask was found in the image, or None if there is no record.

        Raises BadInput if only another image has a record of the mask.
        """
        try:
            async with asyncio.timeout(_STORE_TIMEOUT_S):
                packed = await self._store.get_named(_BUCKET, f"{image}/mask-{mask}")
                elsewhere = None if packed else await self._store.get_named(_BUCKET, f"mask-{mask}")
        except (ArtMancerError, TimeoutError):
            return None
        if elsewhere not in {None, image.encode()}:
            raise BadInput("The previous mask belongs to another image; send a mask that was found in this one.")
        return _unpack(packed) if packed else None


def _pack(origin: Origin) -> bytes:
    return bytes(b"ny"[flag] for flag in origin)


def _unpack(packed: bytes) -> Origin | None:
    return Origin(*(letter == b"y"[0] for letter in packed)) if len(packed) == len(Origin._fields) else None


def _decode(data: bytes) -> Rgb:
    photo = decode_photo(data)
    return to_srgb(photo.rgb, photo.colour)  # the engines were made for sRGB
