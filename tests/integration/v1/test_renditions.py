"""Results in other formats: through a gateway, the image utilities and a real edit, with the metadata of the upload."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from services.imageutils.service import NAME, run
from services.imageutils.settings import Settings
from shared.image_codec import decode_photo, encode_png
from shared.marks import mark_result
from shared.settings import NatsSettings
from shared.source_types import SourceType
from shared.topology import bucket_stream
from tests import phone_photo
from tests.gateway import mask_png, png
from tests.v1_client import beside, submit, upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client, WorkerByHand
    from tests.running import Desk

FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
EDITED = (slice(8, 24), slice(16, 40))
"""Rows and columns of the region that the edits here change."""


@pytest.fixture(autouse=True)
async def image_service(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[None]:
    """Run the image utilities."""
    async with beside(bus, NAME, run, Settings(nats=NatsSettings(url=nats_url), streams=stream_settings)):
        yield


async def finished(client: Client, worker: WorkerByHand, photo: bytes, **edit: Any) -> tuple[str, bytes]:
    """Edit a photo by hand: return the job's id and its result, with a green region."""
    decoded = decode_photo(photo, with_alpha=True)
    pixels = (decoded.rgb if decoded.rgba is None else decoded.rgba).copy()
    pixels[EDITED][..., :3] = (0, 160, 0)
    height, width = pixels.shape[:2]
    mask = await upload(client, mask_png((width, height), (16, 8, 39, 23)))
    job_id = await submit(client, image=await upload(client, photo), mask=mask, **edit)
    result = encode_png(pixels, decoded.colour, SourceType.COMPOSITE_WITH_NETWORK)
    await worker.finish(job_id, result)
    return job_id, result


def open_picture(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def tables_of(picture: Any) -> dict[int, list[int]]:
    """Return the quantisation tables of a JPEG."""
    return {number: list(table) for number, table in picture.quantization.items()}


def outside(data: bytes) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return the colours outside the edited region and the blocks that it touches."""
    pixels = np.asarray(open_picture(data).convert("RGB"), np.int16).copy()
    pixels[:32, :48] = 0
    return pixels


# --- the same photo out -------------------------------------------------------------------------------------------


async def test_a_phones_photo_comes_back_as_it_came(client: Client, desk: Desk) -> None:
    """After a real removal: the container, its tables, camera data, profile, captions, density; no old picture."""
    photo = phone_photo.phone_jpeg()
    async with desk.manager(), desk.worker("classical"):
        job_id = await submit(
            client, image=await upload(client, photo), mask=await upload(client, mask_png(phone_photo.SIZE))
        )
        await desk.done(job_id)
        answer = await client.get(f"/v1/jobs/{job_id}/result?format=original")
    came, went = open_picture(photo), open_picture(answer.content)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert went.size == phone_photo.SIZE
    turned = {number: [table[8 * (at % 8) + at // 8] for at in range(64)] for number, table in tables_of(came).items()}
    assert tables_of(went) == turned  # as the photo
    assert went.info["icc_profile"] == phone_photo.P3
    assert went.info["dpi"] == (96, 72)  # turned, as the photo
    exif = went.getexif()
    assert (exif[0x010F], exif[0x0112], exif[0x0132]) == (phone_photo.MAKER, 1, "2026:05:04 03:02:01")
    assert exif.get_ifd(0x8825)[2] == (48.0, 8.0, 15.0)
    assert exif.get_ifd(0x8769)[0x829A] == pytest.approx(0.01)
    assert phone_photo.CAPTION.encode() in went.info["photoshop"][0x0404]
    assert phone_photo.CREATOR.encode() in went.info["xmp"]
    assert SourceType.COMPOSITE.encode() in went.info["xmp"]
    assert b"Orientation" not in went.info["xmp"]
    assert phone_photo.UNEDITED not in answer.content
    assert getattr(went, "n_frames", 1) == 1


async def test_the_thumbnail_is_made_again(client: Client, worker: WorkerByHand) -> None:
    """It shows the edited picture, and stands in the place of the upload's."""
    job_id, result = await finished(client, worker, phone_photo.phone_jpeg())
    answer = await client.get(f"/v1/jobs/{job_id}/result?format=original")
    exif = open_picture(answer.content).getexif()
    exif.get_ifd(0x8769)
    block = answer.content[answer.content.index(b"Exif\0\0") + 6 :]
    start = block.index(b"\xff\xd8\xff")
    thumbnail = open_picture(block[start : block.index(b"\xff\xd9", start) + 2])

    assert answer.content.count(b"\xff\xd8\xff") == 2
    wanted = open_picture(result).convert("RGB").resize(thumbnail.size)
    assert np.abs(np.asarray(thumbnail, np.int16) - np.asarray(wanted, np.int16)).mean() < 12


@pytest.mark.parametrize("name", FORMATS)
async def test_every_format_carries_the_metadata(client: Client, worker: WorkerByHand, name: str) -> None:
    """The pixels are the result's, nearly or exactly; EXIF, XMP and the profile are the upload's."""
    job_id, result = await finished(client, worker, phone_photo.phone_jpeg())

    answer = await client.get(f"/v1/jobs/{job_id}/result?format={name}")

    assert (answer.status_code, answer.headers["content-type"]) == (200, FORMATS[name])
    went = open_picture(answer.content)
    xmp = went.info.get("xmp") or went.info["XML:com.adobe.xmp"]
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    exif = went.getexif()
    assert (went.size, went.info["icc_profile"]) == (phone_photo.SIZE, phone_photo.P3)
    assert (exif[0x010F], exif.get(0x0112, 1)) == (phone_photo.MAKER, 1)
    assert exif.get_ifd(0x8825)[2] == (48.0, 8.0, 15.0)
    assert phone_photo.CREATOR.encode() in xmp
    assert SourceType.COMPOSITE_WITH_NETWORK.encode() in xmp
    assert phone_photo.UNEDITED not in answer.content
    difference = np.abs(outside(answer.content) - outside(result))
    assert difference.mean() < (4 if name != "png" else 0.001)


@pytest.mark.parametrize(("kind", "options"), [
    ("JPEG", {"quality": 70}), ("PNG", {}), ("WEBP", {"quality": 80}), ("WEBP", {"lossless": True}), ("AVIF", {}),
    ("TIFF", {}), ("BMP", {}),
])  # fmt: skip
async def test_the_container_is_that_of_the_upload(
    client: Client, worker: WorkerByHand, kind: str, options: dict[str, Any]
) -> None:
    """Without loss where it came without loss."""
    file = io.BytesIO()
    phone_photo.scene().save(file, kind, **options)
    job_id, result = await finished(client, worker, file.getvalue())

    answer = await client.get(f"/v1/jobs/{job_id}/result?format=original")

    assert (answer.status_code, open_picture(answer.content).format) == (200, kind)
    difference = np.abs(outside(answer.content) - outside(result))
    lossless = kind in {"PNG", "TIFF", "BMP"} or "lossless" in options
    assert difference.max() == 0 if lossless else difference.mean() < 6


@pytest.mark.parametrize(("photo", "kind", "word"), [
    ("heic", "JPEG", "HEIC"), ("gif", "PNG", "GIF"), ("ico", "PNG", "ICO"),
])  # fmt: skip
async def test_what_cannot_be_written_comes_in_the_nearest_format(
    client: Client, worker: WorkerByHand, photo: str, kind: str, word: str
) -> None:
    """A note gives the reason."""
    data = phone_photo.sample(photo)
    job_id, _ = await finished(client, worker, data)

    answer = await client.get(f"/v1/jobs/{job_id}/result?format=original")

    assert open_picture(answer.content).format == kind
    assert word in answer.headers["x-notes"]


async def test_a_transparent_picture_lies_on_white_in_a_jpeg(client: Client, worker: WorkerByHand) -> None:
    """A note says so; all other formats keep the opacity."""
    picture = phone_photo.scene().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    file = io.BytesIO()
    picture.save(file, "PNG")
    job_id, result = await finished(client, worker, file.getvalue())

    answers = {name: await client.get(f"/v1/jobs/{job_id}/result?format={name}&quality=100") for name in FORMATS}

    alpha = np.asarray(open_picture(result).getchannel("A"), np.int16)
    for name in ("png", "webp", "avif"):
        kept = np.asarray(open_picture(answers[name].content).getchannel("A"), np.int16)
        assert np.abs(kept - alpha).max() <= 3, name
    white = decode_photo(result).rgb.astype(np.int16)
    assert np.abs(np.asarray(open_picture(answers["jpeg"].content), np.int16) - white).mean() < 3
    assert "white" in answers["jpeg"].headers["x-notes"]


async def test_a_second_edit_keeps_what_the_first_upload_had(
    bus: Bus, images: NatsImageStore, client: Client, worker: WorkerByHand
) -> None:
    """The photo is uploaded again as the PNG of its result; its format and camera data are those of the upload."""
    first, result = await finished(client, worker, phone_photo.phone_jpeg())
    await mark_result(bus, "local", first, await images.put("results", result))
    job_id, _ = await finished(client, worker, result)

    answer = await client.get(f"/v1/jobs/{job_id}/result?format=original")

    assert answer.headers["content-type"] == "image/jpeg"
    assert open_picture(answer.content).getexif()[0x010F] == phone_photo.MAKER


async def test_a_deleted_upload_gives_nothing_away(client: Client, worker: WorkerByHand) -> None:
    """The result is still there, without the metadata of the upload; a note says so."""
    photo = phone_photo.phone_jpeg()
    job_id, _ = await finished(client, worker, photo)
    await client.delete(f"/v1/images/{await upload(client, photo)}")

    original = await client.get(f"/v1/jobs/{job_id}/result?format=original")
    jpeg = await client.get(f"/v1/jobs/{job_id}/result?format=jpeg")

    assert (original.headers["content-type"], "upload is gone" in original.headers["x-notes"]) == ("image/png", True)
    assert phone_photo.MAKER.encode() not in original.content + jpeg.content


# --- how it is asked for and sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("accept", "content_type"), [
    ("image/jpeg", "image/jpeg"), ("IMAGE/WEBP", "image/webp"), ("image/avif;q=0.9", "image/avif"),
    ("image/png", "image/png"), ("*/*", None), ("image/*", None), ("image/avif,image/webp,image/png", None),
    ("image/jpeg,*/*;q=0.1", None), ("text/html", None), ("", None), ("image/heic", None),
    ("image/jpeg;q=0", None), ("image/jpeg; Q=0.000", None), ("image/jpeg;q=0.001", "image/jpeg"),
])  # fmt: skip
async def test_accept_counts_if_it_names_one_type(
    client: Client, worker: WorkerByHand, accept: str, content_type: str | None
) -> None:
    """An `<img>` names several, and gets the stored PNG. A format in the query counts first."""
    job_id, result = await finished(client, worker, phone_photo.phone_jpeg())
    url = f"/v1/jobs/{job_id}/result"

    answer = await client.get(url, headers={"Accept": accept})

    assert answer.headers["content-type"] == (content_type or "image/png")
    assert (answer.content == result) is (content_type is None)
    assert "Accept" in answer.headers["vary"]
    chosen = await client.get(f"{url}?format=jpeg", headers={"Accept": accept})
    assert chosen.headers["content-type"] == "image/jpeg"


async def test_two_types_in_two_headers_are_two(client: Client, worker: WorkerByHand) -> None:
    """A proxy may split the list."""
    job_id, result = await finished(client, worker, phone_photo.phone_jpeg())
    request = client.build_request("GET", f"/v1/jobs/{job_id}/result")
    del request.headers["accept"]
    headers = [*request.headers.raw, (b"Accept", b"image/jpeg"), (b"Accept", b"image/webp")]

    answer = await client.send(type(request)("GET", request.url, headers=headers))

    assert answer.content == result


async def test_a_rendition_is_sent_as_the_png_is(client: Client, worker: WorkerByHand) -> None:
    """With ranges, HEAD, an ETag of its own, 304, and for ever in a browser's cache."""
    job_id, _ = await finished(client, worker, phone_photo.phone_jpeg())
    url = f"/v1/jobs/{job_id}/result?format=jpeg&quality=90"
    whole, head = await client.get(url), await client.head(url)
    etag = whole.headers["etag"]
    first = await client.get(url, headers={"Range": "bytes=0-99"})
    rest = await client.get(url, headers={"Range": "bytes=100-", "If-Range": etag})
    again = await client.get(url, headers={"If-None-Match": etag})
    beyond = await client.get(url, headers={"Range": "bytes=99999999-"})

    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)
    assert head.headers["content-length"] == str(len(whole.content))
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.content + rest.content == whole.content
    assert (again.status_code, again.content, again.headers["vary"].count("Accept")) == (304, b"", 1)
    assert beyond.status_code == 416
    assert whole.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert etag != (await client.head(f"/v1/jobs/{job_id}/result")).headers["etag"]


async def test_a_rendition_is_made_once(bus: Bus, client: Client, worker: WorkerByHand) -> None:
    """The second request finds it in the cache; another quality is another rendition."""
    job_id, _ = await finished(client, worker, phone_photo.phone_jpeg())
    url = f"/v1/jobs/{job_id}/result?format=webp"
    await client.get(url)
    before = await bus.info(bucket_stream("cache"), {})

    await client.get(url)
    kept = await bus.info(bucket_stream("cache"), {})
    await client.get(f"{url}&quality=40")

    assert kept["state"]["messages"] == before["state"]["messages"]
    assert (await bus.info(bucket_stream("cache"), {}))["state"]["messages"] > before["state"]["messages"]


async def test_the_place_stays_or_goes(client: Client, worker: WorkerByHand) -> None:
    """The owner keeps it, and may ask for a picture without it."""
    job_id, _ = await finished(client, worker, phone_photo.phone_jpeg())

    kept = await client.get(f"/v1/jobs/{job_id}/result?format=original")
    dropped = await client.get(f"/v1/jobs/{job_id}/result?format=original&gps=drop")

    assert b"GPSLatitude" in kept.content
    assert 0x8825 in open_picture(kept.content).getexif()
    assert b"GPSLatitude" not in dropped.content
    assert b"GpsLong" not in dropped.content
    assert 0x8825 not in open_picture(dropped.content).getexif()
    assert open_picture(dropped.content).getexif()[0x010F] == phone_photo.MAKER


@pytest.mark.parametrize("query", [
    "format=gif", "format=", "format=JPEG", "format=jpeg&quality=0", "format=jpeg&quality=101",
    "format=jpeg&quality=high", "format=jpeg&quality=", "format=jpeg&gps=yes", "quality=80",
])  # fmt: skip
async def test_a_wrong_query_is_refused(client: Client, worker: WorkerByHand, query: str) -> None:
    """With problem details in a sentence."""
    job_id, _ = await finished(client, worker, phone_photo.phone_jpeg())

    answer = await client.get(f"/v1/jobs/{job_id}/result?{query}")

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"].endswith(".")


async def test_a_job_without_a_result_has_no_rendition(client: Client, worker: WorkerByHand) -> None:
    """The answers are those for the PNG: 409 while it runs, 410 after a failure, 404 for an unknown job."""
    running, failed = await submit(client), await submit(client)
    await worker.fail(failed, "The engine gave up.")

    answers = [await client.get(f"/v1/jobs/{job}/result?format=jpeg") for job in (running, failed, "nope")]

    assert [answer.status_code for answer in answers] == [409, 410, 404]


# --- uploads ------------------------------------------------------------------------------------------------------


async def show(client: Client, data: bytes, query: str) -> httpx.Response:
    """Return an upload in another format."""
    return await client.get(f"/v1/images/{await upload(client, data)}?{query}")


async def test_a_heic_is_shown_as_a_jpeg(client: Client) -> None:
    """Upright, in the size that the upload's answer states."""
    data = phone_photo.sample("heic")

    answer = await show(client, data, "format=jpeg")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    wanted = decode_photo(data).rgb
    pixels = np.asarray(open_picture(answer.content), np.int16)
    assert pixels.shape == wanted.shape
    assert np.abs(pixels - wanted).mean() < 3


async def test_a_turned_photo_is_shown_upright(client: Client) -> None:
    """Its metadata say so."""
    answer = await show(client, phone_photo.phone_jpeg(), "format=png")

    picture = open_picture(answer.content)
    assert (picture.size, picture.getexif()[0x0112]) == (phone_photo.SIZE, 1)
    assert np.array_equal(np.asarray(picture), decode_photo(phone_photo.phone_jpeg()).rgb)


async def test_head_states_what_get_sends(client: Client) -> None:
    """This holds for an upload in another format and for its own bytes."""
    address = f"/v1/images/{await upload(client, phone_photo.phone_jpeg())}"
    for query in ("", "?format=webp", "?format=png&gps=drop"):
        whole, head = await client.get(address + query), await client.head(address + query)

        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", whole.headers["etag"])
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert head.headers["content-length"] == str(len(whole.content))
    assert (await client.head(f"{address}?quality=80")).status_code == 422


async def test_an_upload_without_a_format_is_sent_byte_for_byte(client: Client) -> None:
    """Accept does not change it."""
    data = phone_photo.phone_jpeg()

    answer = await client.get(f"/v1/images/{await upload(client, data)}", headers={"Accept": "image/webp"})

    assert answer.content == data
    assert (await show(client, png(), "format=original")).status_code == 422
