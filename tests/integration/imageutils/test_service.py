"""The image utilities as other services use them: requests over a real broker, with pictures by reference."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import ImageCms

from services.a100worker.cancel_flag import CancelFlag
from services.a100worker.job.inputs import ServiceCalls
from services.imageutils.extract import extract_object
from services.imageutils.service import NAME, run
from services.imageutils.settings import Settings
from services.imageutils.shadow import Shadow, add_shadow
from services.imageutils.white_balance import auto_table, balance_auto, balance_manual
from shared import rpc, subjects
from shared.colour import SRGB, Colour
from shared.colour_tables import apply_table
from shared.errors import BadImage, BadInput, ImageNotFound, Unavailable
from shared.image_codec import Photo, decode_photo, encode_png
from shared.messages import (
    ExtractRequest,
    HealthReply,
    HealthRequest,
    ImageRef,
    ImageReply,
    JobSubmit,
    ShadowRequest,
    Task,
    WhiteBalanceRequest,
)
from shared.settings import NatsSettings
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus
    from shared.image_codec import Grey
    from shared.image_store import NatsImageStore
    from shared.messages import Message
    from shared.settings import StreamSettings

PHOTO = (Path(__file__).parents[3] / "services/gateway/static/samples/cat.jpg").read_bytes()
UNKNOWN = "0" * 64


@pytest.fixture(autouse=True)
async def service(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[None]:
    """Run the service; it must stop on request."""
    stop = asyncio.Event()
    settings = Settings(nats=NatsSettings(url=nats_url), streams=stream_settings, at_once=2)

    async def healthy() -> bool:
        try:
            return (await rpc.call(bus, subjects.health(NAME), HealthRequest(), HealthReply, timeout_s=2)).v == 1
        except Unavailable:
            return False

    async with asyncio.TaskGroup() as group:
        group.create_task(run(settings, stop), name="imageutils")
        await wait_until(healthy, "the image utilities are healthy")
        yield
        stop.set()


async def ask(bus: Bus, images: NatsImageStore, subject: str, request: Message) -> Photo:
    """Ask the service and fetch the picture that it made."""
    reply = await rpc.call(bus, subject, request, ImageReply, timeout_s=TIMEOUT_S)
    assert reply.png.bucket == "cache"
    photo = decode_photo(await images.get("cache", reply.png.sha256))
    assert (reply.png.height, reply.png.width) == photo.rgb.shape[:2]
    return photo


def ellipse() -> Grey:
    """Mark the cat's face."""
    mask = np.zeros((300, 451), np.uint8)
    cv2.ellipse(mask, (190, 150), (150, 120), 0, 0, 360, 255, -1)
    return mask


async def test_an_object_is_extracted(bus: Bus, images: NatsImageStore) -> None:
    """Photo and mask go in by hash, the white square comes out by hash."""
    image = await images.put("inputs", PHOTO)
    mask = await images.put("inputs", encode_png(ellipse()))

    square = await ask(bus, images, subjects.IMG_EXTRACT, ExtractRequest(image=image.sha256, mask=mask.sha256))

    np.testing.assert_array_equal(square.rgb, extract_object(decode_photo(PHOTO).rgb, ellipse()))


async def test_a_shadow_is_shown(bus: Bus, images: NatsImageStore) -> None:
    """All knobs of the request arrive at the shadow."""
    square = extract_object(decode_photo(PHOTO).rgb, ellipse())
    image = await images.put("inputs", encode_png(square))
    request = ShadowRequest(image=image.sha256, offset_x_px=-9, offset_y_px=12, opacity=0.7, blur_px=33)

    shown = await ask(bus, images, subjects.IMG_SHADOW, request)

    np.testing.assert_array_equal(shown.rgb, add_shadow(square, None, Shadow(-9, 12, 0.7, 33)))


async def test_the_shadow_follows_the_mask(bus: Bus, images: NatsImageStore) -> None:
    """With a mask, the object is what the mask marks."""
    photo = decode_photo(PHOTO).rgb
    image = await images.put("inputs", PHOTO)
    mask = await images.put("inputs", encode_png(ellipse()))

    shown = await ask(bus, images, subjects.IMG_SHADOW, ShadowRequest(image=image.sha256, mask=mask.sha256))

    np.testing.assert_array_equal(shown.rgb, add_shadow(photo, ellipse(), Shadow()))


async def test_white_is_balanced_by_itself(bus: Bus, images: NatsImageStore) -> None:
    """The automatic method is the default, as strong as asked for."""
    image = await images.put("inputs", PHOTO)
    request = WhiteBalanceRequest(image=image.sha256, strength=0.5)

    balanced = await ask(bus, images, subjects.IMG_WHITE_BALANCE, request)

    np.testing.assert_array_equal(balanced.rgb, balance_auto(decode_photo(PHOTO).rgb, 0.5))


async def test_a_worker_balances_its_image_by_a_table(bus: Bus, images: NatsImageStore) -> None:
    """The image utilities see a small copy, and not the photo, which need not even be stored."""
    photo = np.asarray(cv2.resize(decode_photo(PHOTO).rgb, (902, 600)), np.uint8)
    submission = JobSubmit(task=Task.WHITE_BALANCE, image=UNKNOWN, strength=0.7, temperature=30)
    calls = ServiceCalls(bus, images, CancelFlag())

    balanced = await asyncio.to_thread(calls.fetch_balanced, submission, photo, SRGB)

    np.testing.assert_array_equal(balanced, apply_table(photo, auto_table(photo, 0.7, temperature=30)))


@pytest.mark.parametrize("small", ["no base64!", "", base64.b64encode(b"no picture").decode()])
async def test_a_small_copy_that_is_no_picture_is_refused(bus: Bus, small: str) -> None:
    """With a sentence."""
    request = WhiteBalanceRequest(image=UNKNOWN, small_png=small)

    with pytest.raises(BadImage, match=r"small copy|readable image"):
        await rpc.call(bus, subjects.IMG_WHITE_BALANCE, request, ImageReply, timeout_s=TIMEOUT_S)


async def test_white_is_balanced_by_hand(bus: Bus, images: NatsImageStore) -> None:
    """Both knobs of the request arrive."""
    image = await images.put("inputs", PHOTO)
    request = WhiteBalanceRequest(image=image.sha256, method="manual", temperature=40, tint=-25)

    balanced = await ask(bus, images, subjects.IMG_WHITE_BALANCE, request)

    np.testing.assert_array_equal(balanced.rgb, balance_manual(decode_photo(PHOTO).rgb, 40, -25))


async def test_the_colour_profile_is_kept(bus: Bus, images: NatsImageStore) -> None:
    """Numbers mean the same colours before and after."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = await images.put("inputs", encode_png(decode_photo(PHOTO).rgb, Colour(profile)))

    balanced = await ask(bus, images, subjects.IMG_WHITE_BALANCE, WhiteBalanceRequest(image=image.sha256))

    assert balanced.colour.icc == profile


async def test_more_requests_than_seats_are_all_answered(bus: Bus, images: NatsImageStore) -> None:
    """Requests without a free slot wait, and each caller gets its own picture."""
    image = await images.put("inputs", PHOTO)
    requests = [
        WhiteBalanceRequest(image=image.sha256, method="manual", temperature=10 * step) for step in range(-4, 5)
    ]

    photos = await asyncio.gather(*(ask(bus, images, subjects.IMG_WHITE_BALANCE, request) for request in requests))

    for request, photo in zip(requests, photos, strict=True):
        np.testing.assert_array_equal(photo.rgb, balance_manual(decode_photo(PHOTO).rgb, request.temperature, 0))


async def test_an_unknown_picture_is_not_found(bus: Bus) -> None:
    """An unknown or expired hash is an error of its own."""
    with pytest.raises(ImageNotFound):
        await rpc.call(
            bus, subjects.IMG_WHITE_BALANCE, WhiteBalanceRequest(image=UNKNOWN), ImageReply, timeout_s=TIMEOUT_S
        )


async def test_an_empty_mask_is_refused(bus: Bus, images: NatsImageStore) -> None:
    """The sentence travels with the error."""
    image = await images.put("inputs", PHOTO)
    mask = await images.put("inputs", encode_png(np.zeros((300, 451), np.uint8)))
    request = ExtractRequest(image=image.sha256, mask=mask.sha256)

    with pytest.raises(BadInput, match="mask is empty"):
        await rpc.call(bus, subjects.IMG_EXTRACT, request, ImageReply, timeout_s=TIMEOUT_S)


async def test_what_is_no_picture_is_refused(bus: Bus, images: NatsImageStore) -> None:
    """Bytes that got into the store unchecked do not harm the service."""
    data = b"not a picture"
    sha256 = hashlib.sha256(data).hexdigest()
    ref = ImageRef(bucket="inputs", sha256=sha256, content_type="image/png", width=1, height=1, size_bytes=len(data))
    await images.put("inputs", data, ref)

    with pytest.raises(BadImage):
        await rpc.call(
            bus, subjects.IMG_WHITE_BALANCE, WhiteBalanceRequest(image=sha256), ImageReply, timeout_s=TIMEOUT_S
        )
