"""Images by the SHA-256 of their bytes, and derived data by name, in the object buckets of the broker.

Existence means content: an entry without its bytes counts as no image, and the next upload replaces it. An image that
is missing in `inputs` is read from `results`: an edit of an earlier result needs no copy (decision 0039).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol, TypeAlias

from cachetools import LRUCache
from pydantic import ValidationError

from shared import metrics
from shared.errors import BadImage, BadInput, ImageNotFound
from shared.messages import ImageRef
from shared.object_buckets import CHUNK_BYTES, Bucket, ObjectBuckets, adr_digest, digest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from shared.bus import Bus
    from shared.object_buckets import Entry

    Probe: TypeAlias = Callable[[bytes], Awaitable[tuple[int, int, str, list[str]]]]
    """Returns the upright image's width and height in pixels, its content type and notes. Raises BadImage, TooLarge."""

__all__ = [
    "CHUNK_BYTES",
    "Bucket",
    "CachedImageStore",
    "ImageRemover",
    "ImageStore",
    "NamedStore",
    "NatsImageStore",
    "StoredImages",
    "digest",
]
_VERIFIED = 4096  # copies
_NOTE_END = "\n"


class ImageStore(Protocol):
    """Stores images that services exchange."""

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None, *, force: bool = False) -> ImageRef:
        """Store an image once and return its reference. Raises BadImage, Busy when full, BrokerUnavailable.

        With `force` it is stored even if it exists, so that the duration does not reveal whether it did.
        """

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """Return the bytes, checked against their hash. Raises ImageNotFound, BrokerUnavailable."""

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """Return the reference of an image that exists. Raises BrokerUnavailable.

        An old one is stored again, so that it outlives a job that names it; a result is not.
        """


class StreamedStore(ImageStore, Protocol):
    """An ImageStore that also returns images in pieces."""

    def stream(self, bucket: Bucket, sha256: str) -> AsyncGenerator[bytes, None]:
        """Yield an image in pieces, so that a slow reader costs little memory. Raises ImageNotFound, BrokerUnavailable.

        A missing piece raises before the first one; wrong bytes raise before the last one.
        """


class DescribedStore(ImageStore, Protocol):
    """An ImageStore that states the facts of images in buckets that its service may not write."""

    async def describe(self, sha256: str, bucket: Bucket = "inputs") -> ImageRef | None:
        """Return the facts in the entry of an image; None if there is none, or one without a size.

        Unlike `head` it writes nothing and does not look for the bytes. Raises BrokerUnavailable.
        """


class _WholeStore(StreamedStore, DescribedStore, Protocol):
    """All that a cache passes on."""


class ImageRemover(Protocol):
    """Deletes images that services exchange."""

    async def remove(self, bucket: Bucket, sha256: str, is_needed: Callable[[], Awaitable[bool]]) -> bool:
        """Delete an image unless `is_needed` returns True; return whether it was deleted. Raises BrokerUnavailable.

        An image that is stored again during the question stays.
        """


class NamedStore(Protocol):
    """Stores data derived from images, under names that every service can compute."""

    async def put_named(self, bucket: Bucket, name: str, data: bytes) -> None:
        """Store bytes under a name and replace earlier ones. Raises Busy when full, BrokerUnavailable."""

    async def get_named(self, bucket: Bucket, name: str) -> bytes | None:
        """Return the bytes of a name, or None if they are missing or incomplete. Raises BrokerUnavailable."""


class NatsImageStore:
    """ImageStore and NamedStore over JetStream object buckets."""

    def __init__(self, bus: Bus, probe: Probe, *, verifies: bool = True) -> None:
        """`probe` finds the size of an image that was stored without one. Without `verifies`, `head` reads no bytes."""
        self._probe = probe
        self._objects = ObjectBuckets(bus)
        self._verifies = verifies
        self._verified: LRUCache[str, bool] = LRUCache(_VERIFIED)  # nuids of copies whose hash was correct

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None, *, force: bool = False) -> ImageRef:
        """See ImageStore. With `ref`, the image is not probed: for a caller that has just encoded it."""
        sha256 = await digest(data)
        if ref is not None and (ref.sha256 != sha256 or ref.bucket != bucket):
            raise BadImage("The reference does not belong to the image.")
        may_exist = not force
        while True:
            before = await self._objects.find(bucket, sha256)
            known = await self._usable(bucket, sha256, before.entry) if may_exist else None
            if known is not None:
                return known
            ref = ref or await self._describe(bucket, sha256, data)
            nuid = await self._objects.write(bucket, sha256, data, sha256, _metadata(ref), expect_last=before.seq)
            if nuid is not None:
                break
            may_exist = True  # another writer was first, and its copy serves too
        self._verified[nuid] = True
        if force or before.entry is not None:
            # Otherwise forced copies of one image would fill the bucket. For a new image delete under an unused name,
            # so that neither the requests nor their duration reveal whether it existed.
            await self._objects.drop_chunks(bucket, before.entry.nuid if before.entry else nuid + "-")
        return ref

    async def _describe(self, bucket: Bucket, sha256: str, data: bytes) -> ImageRef:
        width, height, content_type, notes = await self._probe(data)
        return ImageRef(
            bucket=bucket,
            sha256=sha256,
            content_type=content_type,
            width=width,
            height=height,
            size_bytes=len(data),
            notes=notes or None,
        )

    async def _usable(self, bucket: Bucket, sha256: str, entry: Entry | None) -> ImageRef | None:
        """Return the reference of a copy that is young and complete, else None."""
        ref = None if entry is None else _ref(bucket, sha256, entry)
        if entry is None or ref is None or not entry.is_young(bucket):
            return None
        return ref if await self._is_whole(bucket, sha256, entry) else None

    async def _is_whole(self, bucket: Bucket, sha256: str, entry: Entry) -> bool:
        """Return whether the bytes are there: hash them once, and after that count their chunks, in 0.2 ms."""
        if self._verifies and entry.nuid not in self._verified:
            return await self._read(bucket, sha256, entry) is not None
        return await self._has_chunks(bucket, entry)

    async def _has_chunks(self, bucket: Bucket, entry: Entry) -> bool:
        return not self._verifies or await self._objects.count_chunks(bucket, entry) == entry.chunks

    async def put_named(self, bucket: Bucket, name: str, data: bytes) -> None:
        """See NamedStore."""
        await self._objects.write(bucket, name, data, await digest(data), {})

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """See ImageStore."""
        bucket, entry = await self._objects.locate(bucket, sha256)
        while entry is not None:
            data = await self._read(bucket, sha256, entry)
            if data is not None:
                return data
            entry = await self._newer(bucket, sha256, entry)
        raise ImageNotFound

    async def stream(self, bucket: Bucket, sha256: str) -> AsyncGenerator[bytes, None]:
        """See StreamedStore."""
        bucket, entry = await self._objects.locate(bucket, sha256)
        if entry is None or await self._objects.count_chunks(bucket, entry) != entry.chunks:
            raise ImageNotFound
        found, held = hashlib.sha256(), b""
        async for piece in self._objects.pieces(bucket, entry):
            found.update(piece)
            if held:
                yield held
            held = piece
        if found.hexdigest() != sha256:
            raise ImageNotFound
        yield held

    async def _newer(self, bucket: Bucket, sha256: str, read: Entry) -> Entry | None:
        """Return the entry of an image that was stored again since it was read, when its older copy was removed."""
        entry = (await self._objects.find(bucket, sha256)).entry
        return entry if entry is not None and entry.nuid != read.nuid else None

    async def _read(self, bucket: Bucket, sha256: str, entry: Entry) -> bytes | None:
        """Return the bytes of a copy; None if they do not have the hash, as after the loss of chunks."""
        data = await self._objects.read(bucket, entry)
        if await digest(data) == sha256:
            self._verified[entry.nuid] = True
            return data
        self._verified.pop(entry.nuid, None)
        return None

    async def get_named(self, bucket: Bucket, name: str) -> bytes | None:
        """See NamedStore."""
        entry = (await self._objects.find(bucket, name)).entry
        if entry is None:
            return None
        data = await self._objects.read(bucket, entry)
        return data if adr_digest(await digest(data)) == entry.digest else None

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """See ImageStore."""
        bucket, entry = await self._objects.locate(bucket, sha256)
        while entry is not None:
            ref = _ref(bucket, sha256, entry)
            if bucket == "results":  # a worker has hashed it, and no other service may store it again
                return ref if await self._has_chunks(bucket, entry) else None
            if ref is None or not entry.is_young(bucket):
                return await self._put_again(bucket, sha256)
            if await self._is_whole(bucket, sha256, entry):
                return ref
            entry = await self._newer(bucket, sha256, entry)
        return None

    async def describe(self, sha256: str, bucket: Bucket = "inputs") -> ImageRef | None:
        """See DescribedStore."""
        bucket, entry = await self._objects.locate(bucket, sha256)
        return None if entry is None else _ref(bucket, sha256, entry)

    async def _put_again(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """Store an old image again, or add the size of one from `nats obj put <bucket> <file> --name <sha256>`."""
        try:
            return await self.put(bucket, await self.get(bucket, sha256))
        except (BadInput, ImageNotFound):
            return None

    async def remove(self, bucket: Bucket, sha256: str, is_needed: Callable[[], Awaitable[bool]]) -> bool:
        """See ImageRemover."""
        return await self._objects.remove(bucket, sha256, is_needed)


class StoredImages:
    """Renews the images of waiting jobs so that they stay, and deletes images. For a service that reads no pixels."""

    def __init__(self, bus: Bus) -> None:
        self._objects = ObjectBuckets(bus)

    async def renew(self, sha256: str) -> tuple[int | None, bool]:
        """Store an old input again; an old result becomes an input, which no mark keeps.

        Return the number of pixels, None for an image without a size, and whether this is such a copy of a result.
        Raises ImageNotFound, BrokerUnavailable.
        """
        bucket, entry = await self._objects.locate("inputs", sha256)
        if entry is None:
            raise ImageNotFound
        is_old = not entry.is_young(bucket)
        if is_old:
            await self._store_again(sha256, bucket, entry)
        ref = _ref(bucket, sha256, entry)
        return None if ref is None else ref.width * ref.height, is_old and bucket == "results"

    async def remove(self, bucket: Bucket, sha256: str, is_needed: Callable[[], Awaitable[bool]]) -> bool:
        """See ImageRemover."""
        return await self._objects.remove(bucket, sha256, is_needed)

    async def _store_again(self, sha256: str, bucket: Bucket, entry: Entry) -> None:
        before, metadata = await self._objects.find("inputs", sha256), entry.metadata or {}
        data = await self._objects.read(bucket, entry)
        if await digest(data) != sha256:
            raise ImageNotFound
        nuid = await self._objects.write("inputs", sha256, data, sha256, metadata, expect_last=before.seq)
        if nuid is not None and before.entry is not None:
            await self._objects.drop_chunks("inputs", before.entry.nuid)


class CachedImageStore:
    """An ImageStore with a cache in memory of the images that were last read from one bucket."""

    def __init__(self, images: _WholeStore, bucket: Bucket, limit_bytes: int) -> None:
        """Cache images up to a total of `limit_bytes`; a larger image is not cached."""
        self._images = images
        self._bucket = bucket
        self._kept: LRUCache[str, bytes] = LRUCache(limit_bytes, getsizeof=len)

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None, *, force: bool = False) -> ImageRef:
        """See ImageStore."""
        return await self._images.put(bucket, data, ref, force=force)

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """See ImageStore."""
        return await self._images.head(bucket, sha256)

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """See ImageStore."""
        if bucket != self._bucket:
            return await self._images.get(bucket, sha256)
        kept = self._kept.get(sha256)
        metrics.count_lookup(bucket, hit=kept is not None)
        if kept is not None:
            return kept
        data = await self._images.get(bucket, sha256)
        self.keep(sha256, data)
        return data

    async def describe(self, sha256: str, bucket: Bucket = "inputs") -> ImageRef | None:
        """See DescribedStore."""
        return await self._images.describe(sha256, bucket)

    def keep(self, sha256: str, data: bytes) -> None:
        """Cache an image that will soon be in the bucket."""
        if len(data) <= self._kept.maxsize:
            self._kept[sha256] = data

    def stream(self, bucket: Bucket, sha256: str) -> AsyncGenerator[bytes, None]:
        """See StreamedStore."""
        return self._images.stream(bucket, sha256)


def _metadata(ref: ImageRef) -> dict[str, str]:
    """Return the facts in the entry of an image, as text."""
    stated = {"content-type": ref.content_type, "width": str(ref.width), "height": str(ref.height)}
    return {**stated, "notes": _NOTE_END.join(ref.notes)} if ref.notes else stated


def _ref(bucket: Bucket, sha256: str, entry: Entry) -> ImageRef | None:
    """Return the reference; None without a valid size, as after `nats obj put`."""
    metadata = entry.metadata or {}
    fields = {
        "bucket": bucket,
        "sha256": sha256,
        "content_type": metadata.get("content-type"),
        "width": metadata.get("width"),
        "height": metadata.get("height"),
        "size_bytes": entry.size,
        "notes": [note for note in metadata.get("notes", "").split(_NOTE_END) if note] or None,
    }
    try:
        return ImageRef.model_validate(fields)
    except ValidationError:
        return None
