"""The pictures that are kept in memory, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.image_store import CachedImageStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from shared.image_store import Bucket
    from shared.messages import ImageRef


class Shelf:
    """A store in which each image is its own name ten times; it counts the reads."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None, *, force: bool = False) -> ImageRef:
        """Take the reference as it is."""
        assert ref is not None
        assert (ref.bucket, ref.size_bytes, force) == (bucket, len(data), False)
        return ref

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """Nothing is here to be looked at."""
        assert bucket
        assert sha256
        return None

    async def describe(self, sha256: str, bucket: Bucket = "inputs") -> ImageRef | None:
        """Nothing is known."""
        return await self.head(bucket, sha256)

    async def stream(self, bucket: Bucket, sha256: str) -> AsyncGenerator[bytes, None]:
        """Read in one piece."""
        yield await self.get(bucket, sha256)

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """Read."""
        self.reads.append(f"{bucket}/{sha256}")
        return sha256.encode() * 10


async def test_a_picture_is_read_once() -> None:
    """While it fits."""
    shelf = Shelf()
    recent = CachedImageStore(shelf, "results", limit_bytes=20)
    pictures = [await recent.get("results", name) for name in ("a", "a", "b", "a")]

    assert pictures == [b"a" * 10, b"a" * 10, b"b" * 10, b"a" * 10]
    assert shelf.reads == ["results/a", "results/b"]


async def test_the_one_that_nobody_wanted_for_longest_goes_first() -> None:
    """When there is no room for all."""
    shelf = Shelf()
    recent = CachedImageStore(shelf, "results", limit_bytes=20)
    for name in ("a", "b", "a", "c", "a", "b"):
        await recent.get("results", name)

    assert shelf.reads == ["results/a", "results/b", "results/c", "results/b"]


@pytest.mark.parametrize("bucket", ["inputs", "cache", "debug"])
async def test_only_one_bucket_is_kept(bucket: Bucket) -> None:
    """Images of other buckets are read once each time, or cached elsewhere."""
    shelf = Shelf()
    recent = CachedImageStore(shelf, "results", limit_bytes=20)
    for _ in range(2):
        await recent.get(bucket, "a")

    assert len(shelf.reads) == 2


async def test_a_picture_larger_than_the_memory_is_passed_on() -> None:
    """And takes no room from the others."""
    shelf = Shelf()
    recent = CachedImageStore(shelf, "results", limit_bytes=5)
    pictures = [await recent.get("results", "a") for _ in range(2)]

    assert pictures == [b"a" * 10] * 2
    assert len(shelf.reads) == 2


async def test_a_picture_can_be_kept_before_it_is_in_the_bucket() -> None:
    """If it fits."""
    shelf = Shelf()
    recent = CachedImageStore(shelf, "inputs", limit_bytes=20)
    recent.keep("a", b"result")
    recent.keep("b", b"too large for the memory")

    assert [await recent.get("inputs", name) for name in ("a", "b")] == [b"result", b"b" * 10]
    assert shelf.reads == ["inputs/b"]
