"""Data derived from images, in the bucket `cache`: masks, cut-outs, renditions, features.

It is deleted with its sources. No list is needed: an object derived from an image is named `<sha256>/…`, so its entry
lies below the entry of the image (`shared/object_buckets.py`). A derived image has an empty object below each source;
the metadata of that object name the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from shared.errors import ImageNotFound
from shared.object_buckets import Bucket, ObjectBuckets, digest

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_store import ImageStore
    from shared.messages import ImageRef

Source: TypeAlias = tuple[Bucket, str]
"""The bucket and the SHA-256 of an image that something is made from."""
_BUCKET: Final = "cache"
_IMAGE = "image"


class Derived:
    """Stores images derived from others, and deletes them with their sources. All methods raise BrokerUnavailable."""

    def __init__(self, bus: Bus, images: ImageStore) -> None:
        self._objects = ObjectBuckets(bus)
        self._images = images

    async def put(self, data: bytes, ref: ImageRef | None, *sources: Source) -> ImageRef:
        """Store an image in `cache`. Raises ImageNotFound if a source was deleted meanwhile, and as ImageStore.put."""
        sha256 = await digest(data)
        # Write these first and check the sources last: then a deletion meanwhile finds these, or the check finds it.
        for _, source in sources:
            await self._objects.write(_BUCKET, f"{source}/{sha256}", b"", await digest(b""), {_IMAGE: sha256})
        stored = await self._images.put(_BUCKET, data, ref)
        if gone := [source for source in sources if not await self._is_stored(*source)]:
            await self._objects.remove(_BUCKET, sha256, _is_needed)
            await self.drop_if_gone(*gone)
        return stored

    async def drop_if_gone(self, *sources: Source) -> None:
        """If a source was deleted meanwhile, delete its derived data and raise ImageNotFound."""
        for bucket, sha256 in sources:
            if not await self._is_stored(bucket, sha256):
                await self.remove(sha256)
                raise ImageNotFound

    async def has(self, sha256: str) -> bool:
        """Return whether an image in `cache` is stored with all its bytes. Unlike `head`, it stores nothing again."""
        entry = (await self._objects.find(_BUCKET, sha256)).entry
        return entry is not None and await self._objects.count_chunks(_BUCKET, entry) == entry.chunks

    async def remove(self, sha256: str) -> None:
        """Delete all data derived from an image, and a copy of the image itself in `cache`.

        Call it after the image is deleted. The owner of an equal image loses only time: the data is computed again.
        """
        for entry in await self._objects.remove_below(_BUCKET, sha256):
            if made := (entry.metadata or {}).get(_IMAGE):
                await self._objects.remove(_BUCKET, made, _is_needed)
        await self._objects.remove(_BUCKET, sha256, _is_needed)

    async def _is_stored(self, bucket: Bucket, sha256: str) -> bool:
        return (await self._objects.locate(bucket, sha256))[1] is not None


async def _is_needed() -> bool:
    return False  # all of the bucket can be computed again
