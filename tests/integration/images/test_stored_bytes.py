"""An image exists while all its bytes do: lost ones are noticed, an upload repairs them, and no copy is left over."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from shared import subjects
from shared.errors import Busy, ImageNotFound
from shared.image_codec import probe_in_thread
from shared.image_store import CHUNK_BYTES, NatsImageStore
from shared.messages import ImageRef
from shared.settings import StreamSettings
from shared.topology import bucket_stream
from tests.gateway import png
from tests.v1_client import upload
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.bus import Bus
    from shared.image_store import Bucket
    from tests.gateway import Client

SIZES = {"one chunk": 1000, "many chunks": 3 * CHUNK_BYTES}


def stored_as(bucket: Bucket, data: bytes) -> ImageRef:
    sha256 = hashlib.sha256(data).hexdigest()
    return ImageRef(bucket=bucket, sha256=sha256, content_type="image/png", width=4, height=3, size_bytes=len(data))


def entry_of(bucket: Bucket, sha256: str) -> str:
    return subjects.object_entry(bucket, base64.urlsafe_b64encode(sha256.encode()).decode())


async def entry(bus: Bus, ref: ImageRef) -> dict[str, Any]:
    stored = await bus.last(bucket_stream(ref.bucket), entry_of(ref.bucket, ref.sha256))
    assert stored is not None
    return dict(json.loads(stored.data))


async def lose_one_chunk(bus: Bus, ref: ImageRef) -> None:
    chunks = subjects.object_chunks(ref.bucket, (await entry(bus, ref))["nuid"])
    await bus.delete(bucket_stream(ref.bucket), (await bus.history(bucket_stream(ref.bucket), chunks))[-1].seq)


async def lose_all_chunks(bus: Bus, ref: ImageRef) -> None:
    await bus.purge(bucket_stream(ref.bucket), subjects.object_chunks(ref.bucket, (await entry(bus, ref))["nuid"]))


async def spoil_one_chunk(bus: Bus, ref: ImageRef) -> None:
    chunks = subjects.object_chunks(ref.bucket, (await entry(bus, ref))["nuid"])
    last = (await bus.history(bucket_stream(ref.bucket), chunks))[-1]
    await bus.delete(bucket_stream(ref.bucket), last.seq)
    await bus.publish(chunks, last.data[:-1] + b"!", msg_id=f"spoilt.{last.msg_id.rpartition('.')[2]}")


async def chunks_become(bus: Bus, bucket: Bucket, number: int) -> None:
    """Wait until the bucket has so many chunks: writers do not wait until the broker has removed a copy."""

    async def are_so_many() -> bool:
        return await bus.count(bucket_stream(bucket), subjects.object_chunks(bucket, ">")) == number

    await wait_until(are_so_many, f"{bucket} has {number} chunks")


@pytest.mark.parametrize("damage", [lose_one_chunk, lose_all_chunks])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("bucket", ["inputs", "results", "cache", "debug"])
async def test_an_upload_repairs_lost_bytes(
    bus: Bus,
    images: NatsImageStore,
    bucket: Bucket,
    size: int,
    damage: Callable[[Bus, ImageRef], Awaitable[None]],
) -> None:
    """In every bucket, for the process that stored the image and for any other."""
    data = bytes(size)
    ref = await images.put(bucket, data, stored_as(bucket, data))
    await damage(bus, ref)
    other = NatsImageStore(bus, probe_in_thread)

    assert [await store.head(bucket, ref.sha256) for store in (images, other)] == [None, None]
    assert await other.put(bucket, data, ref) == ref
    assert [await store.head(bucket, ref.sha256) for store in (images, other)] == [ref, ref]
    assert await images.get(bucket, ref.sha256) == data


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_an_upload_repairs_spoilt_bytes(bus: Bus, images: NatsImageStore, size: int) -> None:
    """The number of the chunks is right, their content is not."""
    data = bytes(size)
    ref = await images.put("inputs", data, stored_as("inputs", data))
    await spoil_one_chunk(bus, ref)
    with pytest.raises(ImageNotFound):
        await images.get("inputs", ref.sha256)

    assert await images.head("inputs", ref.sha256) is None
    await images.put("inputs", data, ref)
    assert await images.get("inputs", ref.sha256) == data


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_a_stored_copy_replaces_the_one_before(bus: Bus, images: NatsImageStore, size: int) -> None:
    """Or else the forced copies of one image would fill the bucket."""
    data = bytes(size)
    for _ in range(3):
        ref = await images.put("inputs", data, stored_as("inputs", data), force=True)

    await chunks_become(bus, "inputs", -(-size // CHUNK_BYTES))
    assert await images.get("inputs", ref.sha256) == data


async def test_copies_written_at_once_leave_one(bus: Bus, images: NatsImageStore) -> None:
    """The broker accepts one entry, and the other writers remove their chunks."""
    data = bytes(SIZES["many chunks"])
    stores = [NatsImageStore(bus, probe_in_thread) for _ in range(8)]
    refs = await asyncio.gather(*(store.put("inputs", data, stored_as("inputs", data), force=True) for store in stores))

    assert refs == [stored_as("inputs", data)] * 8
    await chunks_become(bus, "inputs", 3)
    assert await images.get("inputs", refs[0].sha256) == data


async def test_readers_get_the_bytes_while_they_are_replaced(images: NatsImageStore) -> None:
    """If a copy is removed during a read, the reader gets the new one."""
    data = bytes(SIZES["many chunks"])
    ref = await images.put("inputs", data, stored_as("inputs", data))

    async def read() -> None:
        for _ in range(30):
            assert await images.get("inputs", ref.sha256) == data
            assert await images.head("inputs", ref.sha256) == ref

    async def replace() -> None:
        for _ in range(15):
            await images.put("inputs", data, ref, force=True)

    await asyncio.gather(read(), read(), replace())


@pytest.mark.parametrize("stream_settings", [StreamSettings(picture_bytes=64 * 1024**2)])
async def test_what_did_not_fit_leaves_nothing(bus: Bus, images: NatsImageStore) -> None:
    """The chunks that did fit would take the place of other images for a day."""
    data = bytes(9 * 1024**2)  # the bucket takes eight
    with pytest.raises(Busy):
        await images.put("debug", data, stored_as("debug", data))

    await chunks_become(bus, "debug", 0)


async def test_an_image_that_nobody_needs_is_removed(bus: Bus, images: NatsImageStore) -> None:
    """Entry and bytes, and it can be stored again."""
    data = bytes(SIZES["many chunks"])
    ref = await images.put("results", data, stored_as("results", data))

    async def is_needed() -> bool:
        return False

    await images.remove("results", ref.sha256, is_needed)

    assert await images.head("results", ref.sha256) is None
    await chunks_become(bus, "results", 0)
    await images.put("results", data, ref)
    assert await images.get("results", ref.sha256) == data


async def test_an_image_that_is_stored_again_meanwhile_stays(images: NatsImageStore) -> None:
    """Its new owner got the reply that it is stored."""
    data = bytes(SIZES["many chunks"])
    ref = await images.put("results", data, stored_as("results", data))

    async def is_needed() -> bool:
        await images.put("results", data, ref, force=True)
        return False

    await images.remove("results", ref.sha256, is_needed)

    assert await images.get("results", ref.sha256) == data


async def test_head_get_and_upload_agree(bus: Bus, client: Client) -> None:
    """Over HTTP: the lost image is not there until an upload repairs it."""
    data = png()
    path = f"/v1/images/{await upload(client, data)}"
    await lose_all_chunks(bus, stored_as("inputs", data))

    lost = [(await client.head(path)).status_code, (await client.get(path)).status_code]
    repaired = await client.post("/v1/images", content=data)

    assert lost == [404, 404]
    assert repaired.is_success
    assert [(await client.head(path)).status_code, (await client.get(path)).content] == [200, data]
