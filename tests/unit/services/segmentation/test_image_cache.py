"""ImageCache by their id, decoded once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.segmentation.image_cache import ImageCache
from shared.errors import ImageNotFound
from shared.image_codec import encode_png

if TYPE_CHECKING:
    from shared.image_store import Bucket
    from shared.messages import ImageRef

PICTURE = np.full((20, 30, 3), (200, 30, 30), np.uint8)


class Shelf:
    """An image store in memory that records the requested images."""

    def __init__(self, **pictures: bytes) -> None:
        self.pictures = pictures
        self.asked: list[str] = []

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """See ImageStore."""
        self.asked.append(f"{bucket}/{sha256}")
        if sha256 not in self.pictures:
            raise ImageNotFound
        return self.pictures[sha256]

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None, *, force: bool = False) -> ImageRef:
        """See ImageStore; nothing is stored here."""
        raise NotImplementedError

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """See ImageStore; nothing is asked here."""
        raise NotImplementedError


async def test_the_second_click_on_a_photo_fetches_nothing() -> None:
    """It is decoded already."""
    shelf = Shelf(a=encode_png(PICTURE))
    pictures = ImageCache(shelf, cache_bytes=10_000)

    first, second = await pictures.photo("a"), await pictures.photo("a")

    assert second is first
    assert np.array_equal(first, PICTURE)
    assert shelf.asked == ["inputs/a"]


async def test_a_photo_that_does_not_fit_is_fetched_again() -> None:
    """The memory is bounded."""
    shelf = Shelf(a=encode_png(PICTURE))
    pictures = ImageCache(shelf, cache_bytes=100)

    await pictures.photo("a")
    await pictures.photo("a")

    assert len(shelf.asked) == 2


async def test_an_unknown_picture_is_named_in_the_clients_words() -> None:
    """It looks for them to send the picture again."""
    with pytest.raises(ImageNotFound, match="Image ID not found or expired: b"):
        await ImageCache(Shelf(), cache_bytes=100).mask("b")
