"""The cache of images by id: each photo is decoded once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.segmentation.caches.image_cache import FoundMasks, ImageCache, Origin
from shared.errors import BadInput, ImageNotFound, StreamFull
from shared.image_codec import encode_png
from tests.fakes import FakeImageStore

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


BY_POINTS, BY_BOX, SHAPED = Origin(True, False), Origin(False, False), Origin(True, True)  # noqa: FBT003 (by_points, shaped)


@pytest.mark.parametrize("origin", [BY_POINTS, BY_BOX, SHAPED])
async def test_the_origin_of_a_mask_is_recorded(origin: Origin) -> None:
    """For every replica, by image and mask."""
    store = FakeImageStore()
    await FoundMasks(store).add("photo", "mask", origin)

    assert await FoundMasks(store).origin("photo", "mask") == origin


async def test_a_mask_of_another_image_is_refused() -> None:
    """It would be corrected in the wrong place."""
    found = FoundMasks(FakeImageStore())
    await found.add("photo", "mask", BY_POINTS)

    with pytest.raises(BadInput, match="belongs to another image"):
        await found.origin("other", "mask")


async def test_one_mask_may_belong_to_two_images() -> None:
    """Masks are named by their bytes, and a simple shape may come twice."""
    found = FoundMasks(FakeImageStore())
    await found.add("photo", "mask", BY_POINTS)
    await found.add("other", "mask", BY_BOX)

    assert [await found.origin(image, "mask") for image in ("photo", "other")] == [BY_POINTS, BY_BOX]


async def test_a_mask_without_a_record_has_no_origin() -> None:
    """It was uploaded, or found by an older release, or the record has expired or is damaged."""
    store = FakeImageStore()
    await store.put_named("cache", "photo/mask-damaged", b"yyy")

    assert await FoundMasks(store).origin("photo", "uploaded") is None
    assert await FoundMasks(store).origin("photo", "damaged") is None


class FullStore(FakeImageStore):
    """A store without room."""

    async def put_named(self, bucket: Bucket, name: str, data: bytes) -> None:
        """See NamedStore."""
        del bucket, name, data
        raise StreamFull


async def test_a_full_store_costs_only_the_record() -> None:
    """The mask is found all the same."""
    found = FoundMasks(FullStore())

    await found.add("photo", "mask", BY_POINTS)

    assert await found.origin("photo", "mask") is None
