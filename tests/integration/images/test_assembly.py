"""A result that was deleted to free space is assembled from its base picture and patches, or is not found."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image

from services.imageutils.assembly import Assembler
from shared import subjects
from shared.derived import Derived
from shared.errors import ImageNotFound, TooLarge
from shared.image_codec import encode_png, probe_in_thread
from shared.image_memory import ImageSlots
from shared.image_store import NatsImageStore
from shared.marks import mark_result, unmark_result
from shared.messages import AssembleRequest, Patch
from shared.topology import JOB_LOG, bucket_stream
from tests import phone_photo
from tests.gateway import WorkerByHand, mask_png, png, saved
from tests.integration.keyed import keyed_images
from tests.v1_client import submit, upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.image_store import Bucket
    from shared.messages import Done
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.integration.keyed import House
    from tests.running import Desk

SIZE = (240, 160)
SPOTS = ((20, 20, 30, 30), (120, 80, 132, 90), (124, 84, 140, 96))  # the last one overlaps the one before


def translucent() -> Image.Image:
    """Return a picture that is transparent in the first spot alone: the first edit makes it opaque."""
    picture = phone_photo.scene(SIZE).convert("RGBA")
    picture.paste((10, 200, 30, 90), (22, 22, 28, 28))
    return picture


def deep(channels: int, kind: str) -> bytes:
    """Return a file with 16 bits a channel; a fourth one is a ramp of opacity."""
    ramp = np.linspace(0, 65535, SIZE[0] * SIZE[1] * channels).reshape(SIZE[1], SIZE[0], channels)
    noise = np.random.default_rng(5).integers(0, 300, ramp.shape)
    done, data = cv2.imencode(kind, np.clip(ramp + noise, 0, 65535).astype(np.uint16))
    assert done
    return bytes(data)


PHOTOS = {
    "a phone's JPEG, turned, with a profile": lambda: phone_photo.phone_jpeg(size=SIZE),
    "a PNG with a profile": lambda: saved(phone_photo.scene(SIZE), icc_profile=phone_photo.P3),
    "a PNG of a palette": lambda: saved(phone_photo.scene(SIZE).quantize(64)),
    "a PNG that an edit makes opaque": lambda: saved(translucent()),
    "a WebP with transparency": lambda: saved(
        translucent().resize((SIZE[0] // 2, SIZE[1])).resize(SIZE), "WEBP", quality=80
    ),
    "a grey PNG": lambda: saved(phone_photo.scene(SIZE).convert("L")),
    "a TIFF with 16 bits": lambda: deep(3, ".tiff"),
    "a PNG with 16 bits and transparency": lambda: deep(4, ".png"),
}


@dataclass(frozen=True)
class Step:
    """An edit of a chain: its job, the job's end, and the bytes of its result."""

    job_id: str
    done: Done
    data: bytes

    @property
    def sha256(self) -> str:
        """The hash of the result."""
        return self.done.result.sha256

    @property
    def url(self) -> str:
        """The address of the result."""
        return f"/v1/jobs/{self.job_id}/result"


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Run the image utilities and a gateway that requires keys."""
    async with keyed_images(bus, nats_url, stream_settings, tmp_path, result_wait_s=0.3) as house:
        yield house


async def retouch(client: Client, desk: Desk, images: NatsImageStore, photo: bytes) -> list[Step]:
    """Remove the spots of a photo, one after another, with the CPU engine."""
    image, steps = await upload(client, photo), list[Step]()
    async with desk.manager(), desk.worker("classical"):
        for spot in SPOTS:
            job_id = await submit(client, image=image, mask=await upload(client, mask_png(SIZE, spot)))
            done = await desk.done(job_id)
            image = done.result.sha256
            steps.append(Step(job_id, done, await images.get("results", image)))
    return steps


async def evict(bus: Bus, images: NatsImageStore, *steps: Step, owner: str = "alice") -> None:
    """Take the whole results away, as a full share does."""
    for step in steps:
        await unmark_result(bus, owner, step.job_id, step.sha256)
        await drop(images, "results", step.sha256)


async def drop(images: NatsImageStore, bucket: Bucket, sha256: str) -> None:
    async def is_needed() -> bool:
        return False

    assert await images.remove(bucket, sha256, is_needed)


async def made(bus: Bus) -> int:
    """Return how many chunks the bucket `cache` holds."""
    return await bus.count(bucket_stream("cache"), subjects.object_chunks("cache", ">"))


@pytest.mark.parametrize("kind", PHOTOS)
async def test_the_bytes_are_the_same(house: House, desk: Desk, bus: Bus, images: NatsImageStore, kind: str) -> None:
    """This holds for each step, from the upload or the previous result, and for every kind of photo."""
    steps = await retouch(house.alice, desk, images, PHOTOS[kind]())
    assert all(step.done.patch is not None for step in steps)
    await evict(bus, images, steps[2])
    from_a_result = await house.alice.get(steps[2].url)
    await evict(bus, images, *steps[:2])
    from_the_upload = [await house.alice.get(step.url) for step in reversed(steps)]

    assert [answer.status_code for answer in (from_a_result, *from_the_upload)] == [200] * 4
    assert from_a_result.content == steps[2].data
    assert [answer.content for answer in from_the_upload] == [step.data for step in reversed(steps)]


async def test_every_address_of_a_result_has_it(house: House, desk: Desk, bus: Bus, images: NatsImageStore) -> None:
    """Both APIs, HEAD, ranges, a signed URL, renditions, the picture before the next edit, and its white balance."""
    steps = await retouch(house.alice, desk, images, PHOTOS["a PNG with a profile"]())
    step, url, alice = steps[1], steps[1].url, house.alice
    rendition = await alice.get(url, params={"format": "jpeg"})
    await evict(bus, images, *steps[:2])
    signed = (await alice.post("/v1/signed-urls", json={"path": url})).json()["url"]
    whole = [
        await house.nobody.get(signed),
        await alice.get(f"/v1/images/{step.sha256}"),
        await alice.get(f"/api/generate/result-image/{step.job_id}"),
        await alice.get(f"/api/visualization/{step.job_id}/generated"),
        await alice.get(f"/api/visualization/{steps[2].job_id}/original"),
    ]
    head, part = await alice.head(url), await alice.get(url, headers={"Range": "bytes=5-90"})
    again = await alice.get(url, params={"format": "jpeg"})
    light = await alice.get(f"/v1/images/{step.sha256}/white-balance/estimate")

    assert [(answer.status_code, answer.content) for answer in whole] == [(200, step.data)] * 5
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(step.data)))
    assert head.headers["etag"] == whole[0].headers["etag"] == f'"{step.sha256}"'
    assert (part.status_code, part.content) == (206, step.data[5:91])
    assert (again.status_code, again.content, light.status_code) == (200, rendition.content, 200)


async def test_an_edit_begins_from_it(house: House, desk: Desk, bus: Bus, images: NatsImageStore) -> None:
    """As from a stored one, also where the services look for it; the receipt names the edits before it."""
    steps = await retouch(house.alice, desk, images, PHOTOS["a grey PNG"]())
    await evict(bus, images, *steps)
    mask = await upload(house.alice, mask_png(SIZE, SPOTS[2]))
    async with desk.manager(), desk.worker("classical"):
        job_id = await submit(house.alice, image=steps[1].sha256, mask=mask, seed=steps[2].done.seed)
        done = await desk.done(job_id)
    receipt = (await house.alice.get(f"/v1/jobs/{job_id}/receipt")).json()
    cut = await house.alice.post("/v1/extractions", json={"image": steps[0].sha256, "mask": mask})
    rendition = await house.alice.get(steps[1].url, params={"format": "png"})

    assert done.result.sha256 == steps[2].sha256
    assert [step["id"] for step in receipt["earlier"]] == [steps[1].job_id, steps[0].job_id]
    assert (cut.status_code, rendition.status_code) == (201, 200)
    assert b"IDAT" + steps[1].data.partition(b"IDAT")[2] == b"IDAT" + rendition.content.partition(b"IDAT")[2]


async def test_nothing_is_assembled_for_others(house: House, desk: Desk, bus: Bus, images: NatsImageStore) -> None:
    """Neither a job nor an image of this name exists for them, also where they have the photo."""
    photo = PHOTOS["a grey PNG"]()
    steps = await retouch(house.alice, desk, images, photo)
    await evict(bus, images, *steps)
    await upload(house.bob, photo)
    before = await made(bus)
    answers = [await house.bob.get(path) for path in (steps[0].url, f"/v1/images/{steps[0].sha256}")]
    refused = await house.bob.post("/v1/jobs", json={"task": "white-balance", "image": steps[0].sha256})

    assert [answer.status_code for answer in (*answers, refused)] == [404, 404, 422]
    assert await made(bus) == before


async def test_a_deleted_job_is_not_assembled(house: House, desk: Desk, bus: Bus, images: NatsImageStore) -> None:
    """Its assembled copy and all images made from it are deleted, too. Later steps need its patch."""
    steps = await retouch(house.alice, desk, images, PHOTOS["a grey PNG"]())
    before = await made(bus)
    await evict(bus, images, *steps[:2])
    for query in ("", "?format=jpeg"):
        assert (await house.alice.get(steps[0].url + query)).status_code == 200
    assert await made(bus) > before
    await house.alice.delete(f"/v1/jobs/{steps[0].job_id}", params={"purge": "true"})
    answers = [await house.alice.get(path) for path in (steps[0].url, f"/v1/images/{steps[0].sha256}", steps[1].url)]

    assert [answer.status_code for answer in answers] == [410, 404, 404]
    assert await made(bus) == before
    assert (await house.alice.get(steps[2].url)).content == steps[2].data


@pytest.mark.parametrize("part", ["upload", "patch", "submission"])
async def test_without_a_part_it_is_gone(house: House, desk: Desk, bus: Bus, images: NatsImageStore, part: str) -> None:
    """The photo was deleted, though another owner still has it; the patch made room; the log forgot the submission."""
    photo = PHOTOS["a grey PNG"]()
    steps = await retouch(house.alice, desk, images, photo)
    await evict(bus, images, *steps[:2])
    name = await upload(house.bob, photo)
    patch = steps[1].done.patch
    assert patch is not None
    if part == "upload":
        await house.alice.delete(f"/v1/images/{name}")
    elif part == "patch":
        await drop(images, "results", patch.sha256)
    else:
        await bus.purge(JOB_LOG, subjects.submissions_of(steps[1].job_id))

    assert (await house.alice.get(steps[1].url)).status_code == 404


async def test_other_bytes_are_no_answer(house: House, bus: Bus, images: NatsImageStore) -> None:
    """As after an update with another encoder. Nothing is kept of them."""
    photo, inner = png("navy", SIZE), png("red", (20, 10))
    picture = Image.open(io.BytesIO(photo))
    picture.paste("red", (3, 5, 23, 15))
    job_id = await submit(house.alice, image=await upload(house.alice, photo))
    worker = WorkerByHand(bus, images, "alice")
    await worker.queue(job_id)
    patch = await images.put("results", inner)
    result = await worker.finish(job_id, saved(picture, compress_level=1), patch)
    await mark_result(bus, "alice", job_id, result)
    await drop(images, "results", result.sha256)

    assert (await house.alice.get(f"/v1/jobs/{job_id}/result")).status_code == 404
    assert await made(bus) == 0


class CountedStore(NatsImageStore):
    """Counts the reads of each picture."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, probe_in_thread)
        self.reads = list[str]()

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """Return the bytes."""
        self.reads.append(sha256)
        return await super().get(bucket, sha256)


async def parts(images: NatsImageStore, at: tuple[int, int] = (3, 5), **patch: Any) -> AssembleRequest:
    """Store a photo and a patch, and return the request for the picture of both."""
    photo = np.random.default_rng(2).integers(0, 256, (60, 90, 3), np.uint8)
    inner = np.full((10, 20, 3), 7, np.uint8)
    whole = photo.copy()
    whole[5:15, 3:23] = inner
    base = await images.put("inputs", encode_png(photo))
    stored = await images.put("results", patch.get("data", encode_png(inner)))
    result = await images.put("debug", encode_png(whole))
    return AssembleRequest(
        result=result.model_copy(update={"bucket": "results"}),
        base=base,
        patches=[Patch(image=stored, x=at[0], y=at[1])],
    )


async def test_two_readers_wait_for_one_assembly(bus: Bus, images: NatsImageStore) -> None:
    """Each part is read once, and the second reader gets the first one's assembly."""
    request, counted = await parts(images), CountedStore(bus)
    assembler = Assembler(counted, Derived(bus, counted), ImageSlots(counted, 4, 10**9))
    replies = await asyncio.gather(*(assembler.assemble(request) for _ in range(3)))

    assert counted.reads == [request.base.sha256, request.patches[0].image.sha256]
    assert [reply.png.sha256 for reply in replies] == [request.result.sha256] * 3
    assert await images.get("cache", request.result.sha256) == await images.get("debug", request.result.sha256)


@pytest.mark.parametrize(
    ("at", "data"),
    [
        ((80, 5), encode_png(np.full((10, 20, 3), 7, np.uint8))),
        ((3, 5), encode_png(np.full((10, 20, 3), 7, np.uint16))),
        ((3, 5), encode_png(np.full((10, 20, 4), 7, np.uint8))),
    ],
    ids=["beyond the edge", "with 16 bits", "with transparency"],
)
async def test_a_patch_that_does_not_fit_is_refused(
    bus: Bus, images: NatsImageStore, at: tuple[int, int], data: bytes
) -> None:
    """It cannot be of this picture."""
    request = await parts(images, at, data=data)
    assembler = Assembler(images, Derived(bus, images), ImageSlots(images, 4, 10**9))
    with pytest.raises(ImageNotFound):
        await assembler.assemble(request)


async def test_a_deletion_during_the_assembly_is_kept(bus: Bus, images: NatsImageStore) -> None:
    """The patch goes while the picture is made: nothing stays, and nothing is answered."""

    class Deleting(CountedStore):
        """Deletes the patch as soon as it was read."""

        async def get(self, bucket: Bucket, sha256: str) -> bytes:
            data = await super().get(bucket, sha256)
            if bucket == "results":
                await drop(images, bucket, sha256)
            return data

    request, store = await parts(images), Deleting(bus)
    assembler = Assembler(store, Derived(bus, store), ImageSlots(store, 4, 10**9))
    with pytest.raises(ImageNotFound):
        await assembler.assemble(request)

    assert await made(bus) == 0


async def test_a_result_takes_the_memory_of_sixteen_bits(bus: Bus, images: NatsImageStore) -> None:
    """It does not state its depth, as an upload does; two of 24 megapixels beside each other took 1.1 GB."""
    request = await parts(images)
    result = await images.put("results", await images.get("inputs", request.base.sha256))
    assembler = Assembler(images, Derived(bus, images), ImageSlots(images, 4, 100_000))
    with pytest.raises(TooLarge):
        await assembler.assemble(request.model_copy(update={"base": result}))

    assert (await assembler.assemble(request)).png.sha256 == request.result.sha256
