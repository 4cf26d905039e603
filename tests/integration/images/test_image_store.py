"""The image store: one contract for all stores, then the faults that only the store in the broker can have."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from shared import subjects
from shared.errors import BadImage, BrokerUnavailable, Busy, ImageNotFound
from shared.image_codec import probe_in_thread
from shared.image_store import CHUNK_BYTES, NatsImageStore
from shared.messages import ImageRef
from shared.settings import StreamSettings
from shared.topology import bucket_stream
from tests.fakes import FakeImageStore
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.stack.nats_server import NatsServer
    from shared.bus import Bus
    from shared.image_store import ImageStore, NamedStore

CAT = (Path(__file__).parents[3] / "services/gateway/static/samples/cat.jpg").read_bytes()
UNKNOWN = "0" * 64


def noise(side: int, seed: int = 0) -> bytes:
    """Return an image that does not compress: slightly above 3 x side x side bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return file.getvalue()


PICTURES = {"small": CAT, "two chunks": noise(450), "3 MB": noise(1000)}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- the contract -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["broker", "fake"])
def store(request: pytest.FixtureRequest) -> ImageStore:
    """Each store in turn."""
    if request.param == "fake":
        return FakeImageStore()
    images: NatsImageStore = request.getfixturevalue("images")
    return images


@pytest.fixture(params=["broker", "fake"])
def named(request: pytest.FixtureRequest) -> NamedStore:
    """Provide each store by its other name: data under a name."""
    if request.param == "fake":
        return FakeImageStore()
    images: NatsImageStore = request.getfixturevalue("images")
    return images


@pytest.mark.parametrize("data", PICTURES.values(), ids=PICTURES)
async def test_what_is_put_can_be_got(store: ImageStore, data: bytes) -> None:
    """Every byte, whatever the size."""
    ref = await store.put("inputs", data)

    assert await store.get("inputs", ref.sha256) == data


async def test_a_reference_says_what_the_picture_is(store: ImageStore) -> None:
    """Its name is the hash of its bytes; size and type are known without fetching it."""
    ref = await store.put("inputs", CAT)

    assert ref == ImageRef(
        bucket="inputs", sha256=sha(CAT), content_type="image/jpeg", width=451, height=300, size_bytes=len(CAT)
    )
    assert await store.head("inputs", ref.sha256) == ref


async def test_a_picture_is_put_once(store: ImageStore) -> None:
    """Again, even ten times at once, it is the same picture."""
    first = await store.put("inputs", CAT)
    again = await asyncio.gather(*(store.put("inputs", CAT) for _ in range(10)))

    assert again == [first] * 10
    assert await store.get("inputs", first.sha256) == CAT


async def test_an_unknown_picture_is_not_found(store: ImageStore) -> None:
    """An error to whom needs it, nothing to whom only looks."""
    with pytest.raises(ImageNotFound):
        await store.get("inputs", UNKNOWN)
    assert await store.head("inputs", UNKNOWN) is None


async def test_a_result_is_read_as_an_input(store: ImageStore) -> None:
    """Without a copy, unless it is uploaded; other buckets know nothing of one another."""
    result = await store.put("results", CAT)
    found = await store.head("inputs", result.sha256), await store.get("inputs", result.sha256)
    uploaded = await store.put("inputs", CAT)

    assert found == (result, CAT)
    assert await store.head("inputs", result.sha256) == uploaded != result
    assert await store.head("cache", result.sha256) is None


async def test_an_input_is_no_result(store: ImageStore) -> None:
    """A result that made room is gone."""
    upload = await store.put("inputs", CAT)

    assert await store.head("results", upload.sha256) is None


async def test_what_is_no_picture_is_not_kept(store: ImageStore) -> None:
    """The store is no file share."""
    with pytest.raises(BadImage):
        await store.put("inputs", b"#!/bin/sh")

    assert await store.head("inputs", sha(b"#!/bin/sh")) is None


async def test_who_made_the_picture_knows_what_it_is(store: ImageStore) -> None:
    """A reference that comes with the bytes spares the look at them."""
    data = b"bytes that only their maker can read"
    ref = ImageRef(bucket="debug", sha256=sha(data), content_type="image/png", width=4, height=3, size_bytes=len(data))

    assert await store.put("debug", data, ref) == ref
    assert await store.get("debug", ref.sha256) == data


@pytest.mark.parametrize("wrong", [{"sha256": UNKNOWN}, {"bucket": "cache"}], ids=["hash", "bucket"])
async def test_a_reference_to_something_else_is_refused(store: ImageStore, wrong: dict[str, Any]) -> None:
    """Bytes are never kept under another name than their own."""
    ref = await FakeImageStore().put("results", CAT)

    with pytest.raises(BadImage, match="does not belong"):
        await store.put("results", CAT, ref.model_copy(update=wrong))


async def test_what_is_kept_under_a_name_is_found_by_it(named: NamedStore) -> None:
    """Any bytes, any name; the newest wins."""
    await named.put_named("cache", "a picture/what was seen in it", b"first")
    await named.put_named("cache", "a picture/what was seen in it", bytes(CHUNK_BYTES + 1))

    assert await named.get_named("cache", "a picture/what was seen in it") == bytes(CHUNK_BYTES + 1)
    assert await named.get_named("cache", "another picture") is None


# --- in the broker ------------------------------------------------------------------------------------------------


def entry_of(sha256: str) -> str:
    return subjects.object_entry("inputs", base64.urlsafe_b64encode(sha256.encode()).decode())


async def entry(bus: Bus, sha256: str) -> dict[str, Any]:
    stored = await bus.last(bucket_stream("inputs"), entry_of(sha256))
    assert stored is not None
    return dict(json.loads(stored.data))


async def messages_in(bus: Bus, bucket: str) -> int:
    return int((await bus.client.jetstream().stream_info(bucket_stream(bucket))).state.messages)


async def test_the_same_bytes_are_sent_once(bus: Bus, images: NatsImageStore) -> None:
    """The second upload of a picture costs one small read."""
    await images.put("inputs", PICTURES["3 MB"])
    before = await messages_in(bus, "inputs")
    await images.put("inputs", PICTURES["3 MB"])

    assert before == await messages_in(bus, "inputs") == -(-len(PICTURES["3 MB"]) // CHUNK_BYTES) + 1


@pytest.mark.parametrize("year", [2020, 2999])
async def test_an_old_picture_is_stored_again(bus: Bus, images: NatsImageStore, year: int) -> None:
    """It would expire while the new job that names it still waits. An entry from the future may be as old."""
    ref = await images.put("inputs", CAT)
    old = {**await entry(bus, ref.sha256), "mtime": f"{year}-01-01T00:00:00+00:00"}
    await bus.publish(entry_of(ref.sha256), json.dumps(old).encode(), headers={"Nats-Rollup": "sub"})

    await images.put("inputs", CAT)

    assert (await entry(bus, ref.sha256))["nuid"] != old["nuid"]
    assert await images.get("inputs", ref.sha256) == CAT


async def test_an_old_picture_that_is_looked_up_is_stored_again(bus: Bus, images: NatsImageStore) -> None:
    """It would expire while the new job that names it still waits."""
    ref = await images.put("inputs", CAT)
    old = {**await entry(bus, ref.sha256), "mtime": "2020-01-01T00:00:00+00:00"}
    await bus.publish(entry_of(ref.sha256), json.dumps(old).encode(), headers={"Nats-Rollup": "sub"})

    found = await images.head("inputs", ref.sha256)

    assert found == ref
    assert (await entry(bus, ref.sha256))["nuid"] != old["nuid"]
    assert await images.get("inputs", ref.sha256) == CAT


@pytest.mark.parametrize("data", [PICTURES["small"], PICTURES["3 MB"]], ids=["one chunk", "many chunks"])
async def test_a_picture_without_its_chunks_is_not_found(bus: Bus, images: NatsImageStore, data: bytes) -> None:
    """A full cache drops single chunks; the reader does not wait for them."""
    ref = await images.put("inputs", data)
    chunks = await bus.history(
        bucket_stream("inputs"), subjects.object_chunks("inputs", (await entry(bus, ref.sha256))["nuid"])
    )
    await bus.delete(bucket_stream("inputs"), chunks[-1].seq)

    with pytest.raises(ImageNotFound):
        await asyncio.wait_for(images.get("inputs", ref.sha256), 10)


async def test_bytes_that_were_tampered_with_are_not_given_out(bus: Bus, images: NatsImageStore) -> None:
    """The bytes for a hash always have this hash."""
    ref = await images.put("inputs", CAT)
    chunk = subjects.object_chunks("inputs", (await entry(bus, ref.sha256))["nuid"])
    await bus.purge(bucket_stream("inputs"), chunk)
    await bus.publish(chunk, CAT[:-1] + b"!", msg_id="forged.0")

    with pytest.raises(ImageNotFound):
        await images.get("inputs", ref.sha256)


@pytest.mark.parametrize("data", [CAT, noise(700)], ids=["one chunk", "many chunks"])
async def test_other_clients_read_what_we_write(bus: Bus, images: NatsImageStore, data: bytes) -> None:
    """The official client's object store: entry, digest, metadata and bytes."""
    ref = await images.put("inputs", data)
    objects = await bus.client.jetstream().object_store("inputs")

    info = await objects.get_info(ref.sha256)
    found = await asyncio.wait_for(objects.get(ref.sha256), 10)

    assert (info.size, info.chunks, info.bucket) == (len(data), -(-len(data) // CHUNK_BYTES), "inputs")
    assert found.data == data


@pytest.mark.parametrize("data", [CAT, noise(700)], ids=["one chunk", "many chunks"])
async def test_we_read_what_other_clients_write(bus: Bus, images: NatsImageStore, data: bytes) -> None:
    """An operator may put a picture by hand, `nats obj put inputs <file> --name <sha256>`, and submit a job with it."""
    objects = await bus.client.jetstream().object_store("inputs")
    await objects.put(sha(data), data)

    assert await images.get("inputs", sha(data)) == data
    assert await images.head("inputs", sha(data)) == await FakeImageStore().put("inputs", data)


async def test_what_another_client_wrote_under_a_wrong_name_is_not_there(bus: Bus, images: NatsImageStore) -> None:
    """A name that is not the hash, or bytes that are no picture: nothing that a job could use."""
    objects = await bus.client.jetstream().object_store("inputs")
    await objects.put(UNKNOWN, CAT)
    await objects.put(sha(b"#!/bin/sh"), b"#!/bin/sh")

    assert await images.head("inputs", UNKNOWN) is None
    assert await images.head("inputs", sha(b"#!/bin/sh")) is None


async def test_a_picture_that_was_deleted_is_not_found(bus: Bus, images: NatsImageStore) -> None:
    """And can be put again."""
    ref = await images.put("inputs", CAT)
    await (await bus.client.jetstream().object_store("inputs")).delete(ref.sha256)

    assert await images.head("inputs", ref.sha256) is None
    await images.put("inputs", CAT)
    assert await images.get("inputs", ref.sha256) == CAT


@pytest.mark.parametrize("stream_settings", [StreamSettings(picture_bytes=64 * 1024**2)])
@pytest.mark.parametrize("side", [300, 1000], ids=["one chunk", "many chunks"])
async def test_a_full_store_says_so(images: NatsImageStore, side: int) -> None:
    """The user gets the error for an image of one chunk and of many."""

    async def fill() -> None:
        for number in range(100):
            await images.put("debug", noise(side, seed=number))

    with pytest.raises(Busy, match=r"^The image store is full, please try again later\.$"):
        await fill()


@pytest.mark.parametrize("stream_settings", [StreamSettings(picture_bytes=64 * 1024**2)])
async def test_a_cache_is_never_full(images: NatsImageStore) -> None:
    """The oldest makes room for the newest."""
    refs = [await images.put("cache", noise(1000, seed=number)) for number in range(6)]

    assert await images.get("cache", refs[-1].sha256) == noise(1000, seed=5)
    with pytest.raises(ImageNotFound):
        await images.get("cache", refs[0].sha256)


async def test_what_lost_its_chunks_is_no_longer_kept(bus: Bus, images: NatsImageStore) -> None:
    """The bucket makes room chunk by chunk; half of the bytes are none."""
    await images.put_named("cache", "seen", bytes(3 * CHUNK_BYTES))
    await bus.client.jetstream().purge_stream(bucket_stream("cache"), keep=2)  # the entry and one chunk

    assert await images.get_named("cache", "seen") is None


@pytest.mark.parametrize("data", [CAT, noise(1000)], ids=["one chunk", "many chunks"])
async def test_without_a_broker_nothing_is_stored(nats_server: NatsServer, bus: Bus, data: bytes) -> None:
    """The error is the broker's, however many chunks there are."""
    images = NatsImageStore(bus, probe_in_thread)
    await nats_server.kill()
    await wait_until(lambda: not bus.is_connected, "the client has noticed")

    with pytest.raises(BrokerUnavailable):
        await images.put("inputs", data)


async def test_a_picture_that_loses_its_broker_halfway_is_not_there(nats_server: NatsServer, bus: Bus) -> None:
    """The entry goes last: a half-written picture does not exist, and the same put can be tried again."""
    images, data = NatsImageStore(bus, probe_in_thread), noise(2600)

    async def crash() -> None:
        async def begun() -> bool:
            return await messages_in(bus, "inputs") > 2

        await wait_until(begun, "some chunks are stored")
        await nats_server.kill()

    before = bus.connects
    outcome, _ = await asyncio.gather(images.put("inputs", data), crash(), return_exceptions=True)
    await nats_server.start()
    await bus.next_connect(before)

    assert isinstance(outcome, BrokerUnavailable)
    assert await images.head("inputs", sha(data)) is None
    ref = await images.put("inputs", data)
    assert await images.get("inputs", ref.sha256) == data


async def test_an_image_is_read_in_pieces(images: NatsImageStore) -> None:
    """In their order, none larger than a chunk."""
    data = np.random.default_rng(0).bytes(5 * CHUNK_BYTES + 7)
    ref = ImageRef(
        bucket="results", sha256=hashlib.sha256(data).hexdigest(), content_type="image/png", width=1, height=1,
        size_bytes=len(data),
    )  # fmt: skip
    await images.put("results", data, ref)
    pieces = [piece async for piece in images.stream("results", ref.sha256)]

    assert b"".join(pieces) == data
    assert max(len(piece) for piece in pieces) == CHUNK_BYTES


async def test_an_image_without_all_its_pieces_is_not_begun(bus: Bus, images: NatsImageStore) -> None:
    """A client is not sent a part of it."""
    data = np.random.default_rng(0).bytes(2 * CHUNK_BYTES)
    ref = ImageRef(
        bucket="results", sha256=hashlib.sha256(data).hexdigest(), content_type="image/png", width=1, height=1,
        size_bytes=len(data),
    )  # fmt: skip
    await images.put("results", data, ref)
    chunk = await bus.first("OBJ_results", subjects.object_chunks("results", ">"))
    assert chunk is not None
    await bus.delete("OBJ_results", chunk.seq)

    with pytest.raises(ImageNotFound):
        await anext(images.stream("results", ref.sha256))
