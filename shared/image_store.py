"""Pictures by the SHA-256 of their bytes, in the broker's object buckets (the layout of NATS ADR-20).

The client library's own `get` polls its flow control every 250 ms and hangs when chunks have expired; here a picture
is one direct get for its entry and one batched direct get for its chunks, 15 times faster at 8 MB, with a time limit.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from shared import subjects
from shared.errors import BadImage, BadInput, Busy, ImageNotFound, StreamFull
from shared.image_codec import probe
from shared.messages import ImageRef
from shared.topology import bucket_stream

if TYPE_CHECKING:
    from shared.bus import Bus

Bucket = Literal["inputs", "results", "cache", "debug"]
CHUNK_BYTES = 512 * 1024
_WINDOW = 8  # chunks in flight; the server refuses a publisher that holds too many bytes
_HASH_IN_THREAD_BYTES = 256 * 1024
_STILL_YOUNG = 0.5  # of the bucket's life: an older picture is stored again, so that it outlives the job that names it
_LIFE_S = {"inputs": 7 * 86_400.0, "results": 7 * 86_400.0, "debug": 86_400.0, "cache": 2 * 3600.0}


class ImageStore(Protocol):
    """Where pictures are kept between services."""

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None) -> ImageRef:
        """Store a picture once and return its reference. Raises BadImage, Busy when full, BrokerUnavailable."""

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """Return the bytes, checked against their hash. Raises ImageNotFound, BrokerUnavailable."""

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """Return a picture's reference if it is there; it stays for half of its life more. Raises BrokerUnavailable."""


class NatsImageStore:
    """ImageStore over JetStream object buckets."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None) -> ImageRef:
        """See ImageStore. `ref` spares the probe where the caller has just made the picture itself."""
        sha256 = await digest(data)
        entry = await self._entry(bucket, sha256)
        if entry is not None and _described(entry) and _young(bucket, entry):
            return _ref(bucket, sha256, entry)
        if ref is None:
            info = await asyncio.to_thread(probe, data)
            ref = ImageRef(
                bucket=bucket,
                sha256=sha256,
                content_type=info.content_type,
                width=info.width,
                height=info.height,
                size_bytes=len(data),
            )
        elif ref.sha256 != sha256 or ref.bucket != bucket:
            raise BadImage("The reference does not belong to the picture.")
        try:
            await self._write(ref, data)
        except StreamFull as error:
            raise Busy("The picture store is full, please try again later.") from error
        return ref

    async def _write(self, ref: ImageRef, data: bytes) -> None:
        # The entry goes last: until it is there, a half-written picture does not exist. Chunks of an older copy are
        # left to expire, because a reader may be at them.
        nuid = uuid.uuid4().hex
        window = asyncio.Semaphore(_WINDOW)

        async def send(number: int) -> None:
            async with window:
                chunk = data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
                await self._bus.publish(_chunks(ref.bucket, nuid), chunk, msg_id=f"{nuid}.{number}")

        chunks = -(-len(data) // CHUNK_BYTES)
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(chunks):
                    group.create_task(send(number), name=f"image_store.chunk-{number}")
        except ExceptionGroup as failed:  # the first one has ended the others
            raise failed.exceptions[0] from failed
        entry = {
            "name": ref.sha256,
            "bucket": ref.bucket,
            "nuid": nuid,
            "size": len(data),
            "chunks": chunks,
            "mtime": datetime.now(UTC).isoformat(),
            "digest": "SHA-256=" + base64.urlsafe_b64encode(bytes.fromhex(ref.sha256)).decode(),
            "options": {"max_chunk_size": CHUNK_BYTES},
            "metadata": {"content-type": ref.content_type, "width": str(ref.width), "height": str(ref.height)},
        }
        await self._bus.publish(
            _meta(ref.bucket, ref.sha256), json.dumps(entry).encode(), headers={"Nats-Rollup": "sub"}
        )

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """See ImageStore."""
        entry = await self._entry(bucket, sha256)
        if entry is None:
            raise ImageNotFound
        chunks = await self._bus.history(bucket_stream(bucket), _chunks(bucket, entry["nuid"]))
        # A retried chunk is stored late. Other clients do not number theirs: they send one after the other.
        chunks.sort(key=lambda chunk: int(chunk.msg_id.rpartition(".")[2] or 0))
        data = chunks[0].data if len(chunks) == 1 else b"".join(chunk.data for chunk in chunks)
        if await digest(data) != sha256:  # chunks have expired
            raise ImageNotFound
        return data

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """See ImageStore."""
        entry = await self._entry(bucket, sha256)
        if entry is None:
            return None
        if _described(entry) and _young(bucket, entry):
            return _ref(bucket, sha256, entry)
        return await self._put_again(bucket, sha256)

    async def _put_again(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """Renew an old picture, or describe one put by `nats obj put <bucket> <file> --name <sha256>`."""
        try:
            return await self.put(bucket, await self.get(bucket, sha256))
        except (BadInput, ImageNotFound):
            return None

    async def _entry(self, bucket: Bucket, sha256: str) -> dict[str, Any] | None:
        stored = await self._bus.last(bucket_stream(bucket), _meta(bucket, sha256))
        if stored is None:
            return None
        entry: dict[str, Any] = json.loads(stored.data)
        return None if entry.get("deleted") else entry


async def digest(data: bytes) -> str:
    """SHA-256 in hex; large ones are computed in a thread, which the hash leaves the interpreter to."""
    if len(data) < _HASH_IN_THREAD_BYTES:
        return hashlib.sha256(data).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())


def _described(entry: dict[str, Any]) -> bool:
    return "width" in (entry.get("metadata") or {})


def _young(bucket: Bucket, entry: dict[str, Any]) -> bool:
    age = time.time() - datetime.fromisoformat(entry["mtime"]).timestamp()
    return age < _LIFE_S[bucket] * _STILL_YOUNG


def _ref(bucket: Bucket, sha256: str, entry: dict[str, Any]) -> ImageRef:
    metadata = entry["metadata"]
    return ImageRef(
        bucket=bucket,
        sha256=sha256,
        content_type=metadata["content-type"],
        width=int(metadata["width"]),
        height=int(metadata["height"]),
        size_bytes=int(entry["size"]),
    )


def _meta(bucket: Bucket, sha256: str) -> str:
    return subjects.object_entry(bucket, base64.urlsafe_b64encode(sha256.encode()).decode())


def _chunks(bucket: Bucket, nuid: str) -> str:
    return subjects.object_chunks(bucket, nuid)
