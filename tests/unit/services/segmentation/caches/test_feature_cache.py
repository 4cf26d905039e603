"""Network outputs are cached in the process and for every replica."""

from __future__ import annotations

import asyncio
import io
import threading
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from services.segmentation.caches.feature_cache import FeatureCache, pack, unpack
from shared.errors import BrokerUnavailable
from tests.fakes import FakeImageStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_store import Bucket


class NoStore(FakeImageStore):
    """A store without a broker."""

    async def put_named(self, bucket: Bucket, name: str, data: bytes) -> None:
        """Raise BrokerUnavailable."""
        del bucket, name, data
        raise BrokerUnavailable

    async def get_named(self, bucket: Bucket, name: str) -> bytes | None:
        """Raise BrokerUnavailable."""
        del bucket, name
        raise BrokerUnavailable


class Network:
    """Counts how often it has looked."""

    def __init__(self) -> None:
        self.computed = 0

    def __call__(self) -> NDArray[Any]:
        """See something."""
        self.computed += 1
        return np.arange(100, dtype=np.uint8).reshape(4, 25)


async def fetch(memory: FeatureCache, eye: Network, image: str = "a", name: str = "net-1") -> NDArray[Any]:
    """Ask from a thread, as engines do."""
    return await asyncio.to_thread(memory.for_image(image), name, eye)


async def test_a_second_look_is_spared() -> None:
    """The same array comes back, read-only."""
    memory, eye = FeatureCache(FakeImageStore(), 1000), Network()

    first = await fetch(memory, eye)

    assert await fetch(memory, eye) is first
    assert eye.computed == 1
    assert not first.flags.writeable


@pytest.mark.parametrize("other", [{"image": "b"}, {"name": "net-2"}], ids=["picture", "network"])
async def test_another_picture_or_network_is_another_look(other: dict[str, str]) -> None:
    """Neither is taken for the other."""
    memory, eye = FeatureCache(FakeImageStore(), 1000), Network()

    await fetch(memory, eye)
    await fetch(memory, eye, **other)

    assert eye.computed == 2


async def test_what_one_replica_saw_another_need_not_look_at() -> None:
    """They share the store."""
    store, eye = FakeImageStore(), Network()

    first = await fetch(FeatureCache(store, 1000), eye)
    second = await fetch(FeatureCache(store, 1000), eye)

    assert np.array_equal(first, second)
    assert eye.computed == 1


async def test_what_was_forgotten_here_comes_back_from_the_store() -> None:
    """A small memory costs time, never the answer."""
    memory, eye = FeatureCache(FakeImageStore(), 0), Network()

    assert np.array_equal(await fetch(memory, eye), await fetch(memory, eye))
    assert eye.computed == 1


async def test_without_the_store_there_is_still_an_answer() -> None:
    """It is only not shared."""
    memory, eye = FeatureCache(NoStore(), 1000), Network()

    assert (await fetch(memory, eye)).shape == (4, 25)


async def test_bytes_that_are_no_array_are_looked_at_again() -> None:
    """Damaged entries are computed again."""
    store, eye = FakeImageStore(), Network()
    await store.put_named("cache", "a/net-1", b"nonsense")

    assert (await fetch(FeatureCache(store, 1000), eye)).shape == (4, 25)
    assert eye.computed == 1


async def test_two_prompts_on_a_new_picture_look_once() -> None:
    """The second request waits for the first one's output."""
    memory, entered, seen = FeatureCache(FakeImageStore(), 1000), threading.Event(), threading.Event()
    eye = Network()

    def slow() -> NDArray[Any]:
        entered.set()
        seen.wait(5)
        return eye()

    first = asyncio.create_task(asyncio.to_thread(memory.for_image("a"), "net-1", slow), name="first")
    await asyncio.to_thread(entered.wait, 5)
    second = asyncio.create_task(asyncio.to_thread(memory.for_image("a"), "net-1", slow), name="second")
    seen.set()

    assert await first is await second
    assert eye.computed == 1


def state(shape: tuple[int, ...], values: bytes, kind: str = "|u1") -> bytes:
    """Return a stored array with this shape in its header."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": kind})
    return zlib.compress(file.getvalue() + values)


@pytest.mark.parametrize(
    "data",
    [
        state((10**12,), b""),
        state((2**31, 2**31), bytes(100)),
        state((-1, -100), bytes(100)),
        state((10,), bytes(9)),
        state((10**12,), b"", "|V0"),
        state((70 * 1024**2,), bytes(70 * 1024**2)),
        zlib.compress(b"\x93NUMPY\x03\0"),
    ],
    ids=["huge", "huge in two axes", "negative", "cut short", "of nothing", "too many bytes", "another version"],
)
def test_an_array_of_another_size_than_its_header_states_is_none(data: bytes) -> None:
    """A writer to the bucket cannot make this service reserve terabytes."""
    assert unpack(data) is None


@pytest.mark.parametrize(
    "array",
    [np.zeros((320, 320), np.uint8), np.zeros(0, [("score", "u1"), ("map", "u1", (3, 4))]), np.ones(2, "<f4")],
    ids=["plain", "structured and empty", "real numbers"],
)
def test_an_array_survives_the_way_through_the_store(array: NDArray[Any]) -> None:
    """Shape, type and values."""
    again = unpack(pack(array))

    assert again is not None
    assert (again.shape, again.dtype) == (array.shape, array.dtype)
    assert np.array_equal(again, array)


def test_objects_are_not_unpickled() -> None:
    """Bytes of the store can hold no code."""
    with pytest.raises(ValueError, match="Object arrays"):
        pack(np.array([object()]))
