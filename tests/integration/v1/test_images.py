"""/v1/images and /v1/extractions over real sockets and a real broker."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from starlette.formparsers import MultiPartParser

from services.imageutils import service as imageutils
from services.imageutils.settings import Settings
from services.imageutils.white_balance import auto_gains
from shared import subjects
from shared.image_codec import decode_photo
from shared.marks import mark_result
from shared.messages import ImageRef
from shared.reading import read
from shared.settings import NatsSettings
from tests.gateway import ORIGIN, mask_png, png, saved
from tests.v1_client import UNKNOWN, beside, upload
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client

PHOTO = png("teal", size=(64, 48))
COLD = saved(
    Image.open(Path(__file__).parents[3] / "services/gateway/static/samples/coffee.jpg").point(
        [*(value * 0.7 for value in range(256)), *range(256), *range(256)]
    )
)
NAME = hashlib.sha256(PHOTO).hexdigest()


async def post(client: Client, data: bytes, kind: str | None = "image/png") -> httpx.Response:
    return await client.post("/v1/images", content=data, headers={"Content-Type": kind} if kind else {})


async def test_a_new_photo_is_announced(client: Client, bus: Bus) -> None:
    """Segmentation looks at it before the first click. Masks are PNG files, and a photo is announced once."""
    heard: list[str] = []
    photos = [saved(Image.new("RGB", (64, 48), colour), "JPEG") for colour in ("teal", "gold")]
    async with bus.subscribe(subjects.PHOTOS, lambda message: heard.append(read(ImageRef, message.data).sha256)):
        await bus.client.flush()  # the gateway publishes on another connection
        for data in (PHOTO, photos[0], photos[0], photos[1]):
            (await post(client, data, None)).raise_for_status()
        await wait_until(lambda: hashlib.sha256(photos[1]).hexdigest() in heard, "the last photo is announced")

    assert heard == [hashlib.sha256(data).hexdigest() for data in photos]


# --- upload -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "application/octet-stream", "IMAGE/PNG; x=y", None])
async def test_bytes_become_a_picture(client: Client, kind: str | None) -> None:
    """The name is the hash; the media type is detected from the bytes."""
    answer = await post(client, PHOTO, kind)

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/images/{NAME}"
    assert answer.json() == {
        "sha256": NAME, "width": 64, "height": 48, "content_type": "image/png", "bytes": len(PHOTO),
        "notes": []
    }  # fmt: skip


async def test_a_form_works_as_well(client: Client) -> None:
    """The form is that of a browser's file upload."""
    answer = await client.post("/v1/images", files={"file": ("cat.png", PHOTO, "image/png")})

    assert (answer.status_code, answer.json()["sha256"]) == (201, NAME)


async def test_a_form_needs_no_disk(client: Client) -> None:
    """In a container its temporary folder lies in memory anyway, and three forms of 34 MB would fill it."""
    await client.post("/v1/images", files={"file": ("cat.png", PHOTO, "image/png")})

    assert MultiPartParser.spool_max_size == 64 * 1024**2


async def test_a_known_picture_is_200(client: Client) -> None:
    """The response is the same."""
    first, second = await post(client, PHOTO), await post(client, PHOTO)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()


async def test_what_is_left_out_of_a_picture_has_a_note(client: Client) -> None:
    """In the answer to each upload, and in a header of each download."""
    frames = [Image.new("RGB", (8, 6), (90 * number, 0, 0)) for number in range(3)]
    animation = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])

    uploads = [await post(client, animation), await post(client, animation)]
    address = uploads[0].headers["location"]
    downloads = [await client.get(address), await client.head(address)]

    assert [answer.json()["notes"] for answer in uploads] == [["first of 3 frames"]] * 2
    assert [answer.headers["x-notes"] for answer in downloads] == ["first of 3 frames"] * 2


async def test_the_size_is_that_of_the_upright_picture(client: Client) -> None:
    """The EXIF orientation of a phone's photo is applied."""
    exif = Image.Exif()
    exif[0x0112] = 6

    answer = await post(client, saved(Image.new("RGB", (60, 40)), "JPEG", exif=exif))

    assert (answer.json()["width"], answer.json()["height"]) == (40, 60)


@pytest.mark.parametrize(
    ("data", "kind", "status", "code"),
    [
        (b"GIF89a not really", "image/gif", 422, "bad_image"),
        (PHOTO[:100], "image/png", 422, "bad_image"),
        (b"", "image/png", 422, "bad_input"),
        (PHOTO, "text/plain", 415, "unsupported_media_type"),
        (PHOTO, "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (saved(Image.new("1", (9000, 9000))), "image/png", 413, "too_large"),
    ],
    ids=["no picture", "cut short", "empty", "text", "curl's own type", "81 megapixels"],
)
async def test_what_is_no_picture_is_refused(client: Client, data: bytes, kind: str, status: int, code: str) -> None:
    """The error is one sentence in problem details, with CORS headers."""
    answer = await post(client, data, kind)

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)
    assert answer.json()["detail"].endswith(".")


@pytest.mark.parametrize("files", [{"photo": ("a.png", PHOTO)}, {"file": (None, b"text")}])
async def test_a_form_without_a_file_is_refused(client: Client, files: dict[str, tuple[str | None, bytes]]) -> None:
    """The field's name is `file`."""
    answer = await client.post("/v1/images", files=files)

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")


async def test_too_many_bytes_are_refused(client: Client) -> None:
    """The error is problem details, although the limit applies before routing."""
    answer = await post(client, bytes(65 * 1024**2))

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


# --- look and fetch -----------------------------------------------------------------------------------------------


async def test_head_finds_a_stored_image(client: Client) -> None:
    """A client can skip the upload of a stored image."""
    await upload(client, PHOTO)

    answer = await client.head(f"/v1/images/{NAME}")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert int(answer.headers["content-length"]) == len(PHOTO)
    assert answer.content == b""


@pytest.mark.parametrize("name", [UNKNOWN, "x", "A" * 64, "x" * 6000, "..%2f..%2fsecret"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_an_unknown_picture_is_404(client: Client, method: str, name: str) -> None:
    """For each form of name; the gateway keeps running."""
    answer = await client.request(method, f"/v1/images/{name}")

    assert answer.status_code == 404
    assert (await client.get("/api/health")).json()["status"] == "healthy"


async def test_a_picture_comes_back_as_it_was_sent(client: Client) -> None:
    """Byte for byte, with headers for the browser's private cache."""
    await upload(client, PHOTO)

    answer = await client.get(f"/v1/images/{NAME}")

    assert answer.content == PHOTO
    assert (answer.headers["content-type"], answer.headers["etag"]) == ("image/png", f'"{NAME}"')
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_picture_that_is_kept_already_is_not_sent_again(client: Client) -> None:
    """The request has If-None-Match."""
    await upload(client, PHOTO)

    answer = await client.get(f"/v1/images/{NAME}", headers={"If-None-Match": f'"{NAME}"'})

    assert (answer.status_code, answer.content) == (304, b"")


async def test_pages_of_other_origins_may_use_it(client: Client) -> None:
    """The preflight allows the methods and headers of /v1; responses expose theirs."""
    asks = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "idempotency-key,range"}
    preflight = await client.options("/v1/jobs/x", headers=asks)
    answer = await post(client, PHOTO)

    assert preflight.status_code == 200
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    assert "Location" in answer.headers["access-control-expose-headers"]


# --- extractions --------------------------------------------------------------------------------------------------


@pytest.fixture
async def tools(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[None]:
    """Provide the image utilities."""
    settings = Settings(nats=NatsSettings(url=nats_url), streams=stream_settings)
    async with beside(bus, imageutils.NAME, imageutils.run, settings):
        yield


@pytest.mark.usefixtures("tools")
async def test_an_object_is_cut_out(client: Client, images: NatsImageStore) -> None:
    """The square is stored as an input, so it can be the reference of an insertion."""
    body = {"image": await upload(client, PHOTO), "mask": await upload(client, mask_png())}

    answer = await client.post("/v1/extractions", json=body)

    cut_out = answer.json()
    assert (answer.status_code, cut_out["width"], cut_out["height"]) == (201, 512, 512)
    assert answer.headers["location"] == f"/v1/images/{cut_out['sha256']}"
    assert len(await images.get("inputs", cut_out["sha256"])) == cut_out["bytes"]


@pytest.mark.usefixtures("tools")
async def test_an_object_is_cut_out_at_full_size(client: Client, images: NatsImageStore) -> None:
    """The answer has the photo's size, and the object stands where it stood."""
    photo, mask = await upload(client, PHOTO), await upload(client, mask_png())

    answer = await client.post("/v1/extractions", json={"image": photo, "mask": mask, "frame": "photo"})

    cut_out = answer.json()
    with Image.open(io.BytesIO(PHOTO)) as before:
        assert (answer.status_code, cut_out["width"], cut_out["height"]) == (201, *before.size)
    with Image.open(io.BytesIO(await images.get("inputs", cut_out["sha256"]))) as after:
        assert after.mode == "RGBA"
        assert after.getbbox() is not None


@pytest.mark.parametrize("field", ["image", "mask"])
async def test_an_extraction_names_the_picture_that_is_missing(client: Client, field: str) -> None:
    """The error names the field, so the client can upload the image."""
    body = {"image": await upload(client, PHOTO), "mask": await upload(client, mask_png()), field: UNKNOWN}

    answer = await client.post("/v1/extractions", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "image_not_found")
    assert f"field {field} " in answer.json()["detail"]


# --- the light ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tools")
async def test_the_white_balance_of_an_image_and_of_a_result_is_estimated(
    client: Client, bus: Bus, images: NatsImageStore
) -> None:
    """The gains are those that a job would apply."""
    result = await images.put("results", COLD)
    await mark_result(bus, "local", "job-1", result)
    photo = await upload(client, saved(Image.open(io.BytesIO(COLD)), "BMP"))

    answers = [await client.get(f"/v1/images/{name}/white-balance/estimate") for name in (photo, result.sha256)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    np.testing.assert_allclose(answers[0].json()["gains"], auto_gains(decode_photo(COLD).rgb), rtol=1e-6)


@pytest.mark.parametrize("name", [UNKNOWN, "x", "%2e%2e"])
async def test_an_unknown_image_has_no_white_balance(client: Client, name: str) -> None:
    """Also for names that are no hashes."""
    answer = await client.get(f"/v1/images/{name}/white-balance/estimate")

    assert (answer.status_code, answer.json()["code"]) == (404, "image_not_found")


async def test_without_the_service_it_is_not_available(client: Client) -> None:
    """The response is immediate and has Retry-After."""
    body = {"image": await upload(client, PHOTO), "mask": await upload(client, mask_png())}

    answer = await client.post("/v1/extractions", json=body)

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
