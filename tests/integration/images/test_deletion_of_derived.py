"""Images made from an image are deleted with it: renditions, cut-outs, masks and features, also concurrent ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared import subjects
from shared.derived import Derived
from shared.errors import ImageNotFound
from shared.image_codec import decode_photo, encode_png
from shared.marks import mark_result
from shared.topology import bucket_stream
from tests import phone_photo
from tests.fakes import FakeImageStore
from tests.gateway import WorkerByHand, mask_png, png
from tests.integration.keyed import keyed_images
from tests.v1_client import submit, upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from shared.bus import Bus
    from shared.image_store import Bucket, NatsImageStore
    from shared.messages import ImageRef
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.integration.keyed import House

PHOTO = phone_photo.phone_jpeg()
CACHE = bucket_stream("cache")


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Run the image utilities and a gateway that requires keys."""
    async with keyed_images(bus, nats_url, stream_settings, tmp_path) as house:
        yield house


async def chunks(bus: Bus) -> int:
    """Return how many chunks the bucket `cache` holds."""
    return await bus.count(CACHE, subjects.object_chunks("cache", ">"))


async def edit_once(client: Client, bus: Bus, images: NatsImageStore, owner: str) -> str:
    """Finish an edit of the photo, and return the path of the job."""
    image, mask = await upload(client, PHOTO), await upload(client, mask_png(phone_photo.SIZE))
    job_id = await submit(client, image=image, mask=mask)
    photo = decode_photo(PHOTO)
    worker = WorkerByHand(bus, images, owner)
    await worker.queue(job_id)
    await mark_result(bus, owner, job_id, await worker.finish(job_id, encode_png(photo.rgb, photo.colour)))
    return f"/v1/jobs/{job_id}"


async def show(client: Client, path: str) -> bytes:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.content


async def test_renditions_go_with_the_job(house: House, bus: Bus, images: NatsImageStore) -> None:
    """In every format, also those that state no place; of the upload nothing was made."""
    job = await edit_once(house.alice, bus, images, "alice")
    for query in ("format=original", "format=webp&gps=drop", "format=png", "format=jpeg&quality=60"):
        await show(house.alice, f"{job}/result?{query}")
    before = await chunks(bus)
    await house.alice.delete(job, params={"purge": "true"})

    assert before >= 8  # four pictures, and a record of each
    assert await chunks(bus) == 0


async def test_renditions_go_with_the_upload(house: House, bus: Bus, images: NatsImageStore) -> None:
    """Those of the result have its metadata. The next one has none."""
    job = await edit_once(house.alice, bus, images, "alice")
    sha256 = await upload(house.alice, PHOTO)
    first = await show(house.alice, f"{job}/result?format=jpeg")
    await show(house.alice, f"/v1/images/{sha256}?format=png")
    names = [await images.head("cache", name) for name in await list_cached(bus)]
    await house.alice.delete(f"/v1/images/{sha256}")
    left = [await images.head("cache", ref.sha256) for ref in names if ref is not None]
    second = await show(house.alice, f"{job}/result?format=jpeg")

    assert len(left) == 2
    assert left == [None, None]
    assert phone_photo.MAKER.encode() in first
    assert phone_photo.MAKER.encode() not in second


async def list_cached(bus: Bus) -> list[str]:
    """Return the hashes of the pictures in the bucket."""
    stored = await bus.history(CACHE, subjects.object_entry("cache", "*"))
    return [message.data.decode().partition('"name": "')[2][:64] for message in stored]


async def test_equal_pictures_of_others_stay(house: House, bus: Bus, images: NatsImageStore) -> None:
    """Bob made the same edit of the same photo. The last of the two deletions takes the renditions."""
    jobs = {name: await edit_once(client, bus, images, name) for name, client in owners(house)}
    for name, client in owners(house):
        await show(client, f"{jobs[name]}/result?format=jpeg")
    left = []
    for name, client in owners(house):
        await client.delete(jobs[name], params={"purge": "true"})
        left.append(await chunks(bus) > 0)

    assert left == [True, False]


def owners(house: House) -> list[tuple[str, Client]]:
    return [("alice", house.alice), ("bob", house.bob)]


async def test_a_cut_out_goes_with_its_photo(house: House, bus: Bus) -> None:
    """The owner's own copy of the cut-out stays; that of the cache does not."""
    photo, mask = await upload(house.alice, png()), await upload(house.alice, mask_png())
    answer = await house.alice.post("/v1/extractions", json={"image": photo, "mask": mask})
    before = await chunks(bus)
    await house.alice.delete(f"/v1/images/{photo}")

    assert (answer.status_code, before) == (201, 1)
    assert await chunks(bus) == 0
    assert (await house.alice.get(f"/v1/images/{answer.json()['sha256']}")).status_code == 200


async def test_what_is_named_below_an_image_goes_with_it(bus: Bus, images: NatsImageStore) -> None:
    """As features are; those of other images stay."""
    derived = Derived(bus, images)
    for name in ("a", "a/net-1", "a/deep/er", "b/net-1", "ab/net-1"):
        await images.put_named("cache", name, name.encode())
    await derived.remove("a")

    left = [await images.get_named("cache", name) for name in ("a", "a/net-1", "a/deep/er", "b/net-1", "ab/net-1")]
    assert left == [None, None, None, b"b/net-1", b"ab/net-1"]
    assert await chunks(bus) == 2


class SlowStore(FakeImageStore):
    """A store that runs an act before or after it stores an image."""

    def __init__(self, images: NatsImageStore, before: Callable[[], Awaitable[None]] | None, after: object) -> None:
        super().__init__()
        self._images, self._before, self._after = images, before, after

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None, *, force: bool = False) -> ImageRef:
        """See ImageStore."""
        if self._before is not None:
            await self._before()
        stored = await self._images.put(bucket, data, ref, force=force)
        if callable(self._after):
            await self._after()
        return stored


@pytest.mark.parametrize("place", ["before the bytes", "after the bytes"])
async def test_what_is_made_meanwhile_goes_too(bus: Bus, images: NatsImageStore, place: str) -> None:
    """The photo is deleted, by another process, while a mask of it is stored."""
    photo = (await images.put("inputs", png())).sha256

    async def delete() -> None:
        await images.remove("inputs", photo, is_needed)
        await Derived(bus, images).remove(photo)

    acts = (delete, None) if place == "before the bytes" else (None, delete)
    derived = Derived(bus, SlowStore(images, *acts))

    with pytest.raises(ImageNotFound):
        await derived.put(mask_png(), None, ("inputs", photo))
    assert await chunks(bus) == 0


async def is_needed() -> bool:
    return False


async def test_a_damaged_entry_stops_no_deletion(bus: Bus, images: NatsImageStore) -> None:
    """An operator has written something below an image by hand."""
    derived, photo = Derived(bus, images), (await images.put("inputs", png())).sha256
    await images.put_named("cache", f"{photo}/seen", b"features")
    entry = (await bus.subjects_in(CACHE, subjects.object_entry("cache", "*.*")))[0]
    await bus.publish(entry + "A", b"{")
    await images.remove("inputs", photo, is_needed)
    await derived.remove(photo)

    assert await bus.subjects_in(CACHE, ">") == []
