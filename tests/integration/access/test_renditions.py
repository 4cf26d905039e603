"""The renditions for owners, other owners, and holders of signed URLs; the latter do not get the place."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from shared.image_codec import decode_photo, encode_png
from tests import phone_photo
from tests.gateway import WorkerByHand, mask_png
from tests.integration.keyed import keyed_images
from tests.v1_client import submit, upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.integration.keyed import House

PHOTO = phone_photo.phone_jpeg()
PLACE = 0x8825


@pytest.fixture
async def house(
    bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[House]:
    """Run the image utilities and a gateway that requires keys; a test may pass settings."""
    async with keyed_images(bus, nats_url, stream_settings, tmp_path, **getattr(request, "param", {})) as house:
        yield house


@pytest.fixture
async def result(house: House, bus: Bus, images: NatsImageStore) -> str:
    """Return the path of the result of Alice's finished edit."""
    image, mask = await upload(house.alice, PHOTO), await upload(house.alice, mask_png(phone_photo.SIZE))
    job_id = await submit(house.alice, image=image, mask=mask)
    photo = decode_photo(PHOTO)
    await WorkerByHand(bus, images, "alice").finish(job_id, encode_png(photo.rgb, photo.colour))
    return f"/v1/jobs/{job_id}/result"


def has_place(data: bytes) -> bool:
    """Return whether the picture's metadata state where it was taken."""
    with Image.open(io.BytesIO(data)) as picture:
        return PLACE in picture.getexif() or b"GPSLatitude" in data


async def sign(house: House, path: str) -> str:
    """Return the signed URL of a path of Alice's."""
    answer = await house.alice.post("/v1/signed-urls", json={"path": path})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["url"])


@pytest.mark.parametrize("query", ["?format=original", "?format=webp", "?format=png", ""])
async def test_others_have_no_rendition(house: House, result: str, query: str) -> None:
    """Neither of the result nor of the upload: for them both do not exist."""
    photo = f"/v1/images/{await upload(house.alice, PHOTO)}"

    answers = [await house.bob.get(path + query.replace("original", "jpeg")) for path in (result, photo)]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert (await house.nobody.get(result + query)).status_code == 401


async def test_anothers_upload_gives_no_metadata(house: House, bus: Bus, images: NatsImageStore, result: str) -> None:
    """After Alice has deleted the photo, Bob's copy of the same file is not hers."""
    sha256 = await upload(house.alice, PHOTO)
    await upload(house.bob, PHOTO)
    await house.alice.delete(f"/v1/images/{sha256}")

    answer = await house.alice.get(f"{result}?format=jpeg")

    assert bus.is_connected
    assert await images.head("inputs", sha256) is not None
    assert answer.status_code == 200
    assert phone_photo.MAKER.encode() not in answer.content


async def test_a_signed_url_does_not_state_the_place(house: House, result: str) -> None:
    """Its holder may be anybody. The owner may ask for a URL that does."""
    owned = await house.alice.get(f"{result}?format=original")
    shared = await house.nobody.get(await sign(house, f"{result}?format=original"))
    asked = await house.nobody.get(await sign(house, f"{result}?format=original&gps=keep"))

    assert [answer.status_code for answer in (owned, shared, asked)] == [200, 200, 200]
    assert [has_place(answer.content) for answer in (owned, shared, asked)] == [True, False, True]


@pytest.mark.parametrize("house", [{"gps": "drop"}], indirect=True)
async def test_a_server_can_drop_the_place(house: House, result: str) -> None:
    """For every reader that does not ask for it."""
    dropped = await house.alice.get(f"{result}?format=jpeg")
    asked = await house.alice.get(f"{result}?format=jpeg&gps=keep")

    assert [has_place(answer.content) for answer in (dropped, asked)] == [False, True]


async def test_a_signed_url_opens_the_format_that_was_signed(house: House, result: str) -> None:
    """No other one, whether by the query or by Accept."""
    plain, chosen = await sign(house, result), await sign(house, f"{result}?format=jpeg&quality=70")

    by_accept = await house.nobody.get(plain, headers={"Accept": "image/webp"})
    refused = [
        await house.nobody.get(url)
        for url in (f"{plain}&format=jpeg", f"{chosen}&format=png", f"{chosen}&gps=keep", chosen.replace("70", "71"))
    ]

    assert by_accept.headers["content-type"] == "image/png"
    assert (await house.nobody.get(chosen)).headers["content-type"] == "image/jpeg"
    assert [answer.status_code for answer in refused] == [401] * 4


async def test_an_upload_can_be_shown_by_a_signed_url(house: House) -> None:
    """The studio shows files that its browser cannot decode in this way."""
    photo = f"/v1/images/{await upload(house.alice, phone_photo.sample('heic'))}"

    answer = await house.nobody.get(await sign(house, f"{photo}?format=jpeg"))

    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert (await house.alice.post("/v1/signed-urls", json={"path": f"{photo}?format=gif"})).status_code == 422
