"""Conversion to PNG."""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from services.gateway.api.before_after import png_pieces
from services.gateway.http.client import CURRENT, Client
from shared.errors import BadImage
from shared.image_store import digest
from shared.messages import ImageRef
from tests.fakes import FakeImageStore
from tests.gateway import png, saved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message

    from services.gateway.decoding.decoders import Decoders


async def to_png(decoders: Decoders, data: bytes, kind: str = "image/jpeg") -> bytes:
    """Store an upload and read it as PNG."""
    images = FakeImageStore()
    ref = ImageRef(
        bucket="inputs", sha256=await digest(data), content_type=kind, width=30, height=20, size_bytes=len(data)
    )
    await images.put("inputs", data, ref)
    return b"".join([piece async for piece in png_pieces(images, decoders, ref)])


def open_image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


async def test_a_png_stays_as_it_is(decoders: Decoders) -> None:
    """Byte for byte."""
    assert await to_png(decoders, png(), "image/png") == png()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
async def test_a_jpeg_becomes_a_png(decoders: Decoders, mode: str) -> None:
    """A JPEG of each colour mode becomes a PNG."""
    after = open_image(await to_png(decoders, saved(Image.new(mode, (30, 20)), "JPEG")))

    assert (after.format, after.size) == ("PNG", (30, 20))


async def test_it_is_turned_upright(decoders: Decoders) -> None:
    """The EXIF orientation is applied."""
    exif = Image.Exif()
    exif[0x0112] = 6
    after = open_image(await to_png(decoders, saved(Image.new("RGB", (30, 20)), "JPEG", exif=exif)))

    assert after.size == (20, 30)


async def test_a_damaged_picture_is_refused(decoders: Decoders) -> None:
    """The error is a sentence."""
    with pytest.raises(BadImage):
        await to_png(decoders, saved(Image.effect_noise((90, 90), 50), "JPEG")[:900])


@contextlib.contextmanager
def owned_by(owner: str) -> Iterator[None]:
    """Act in the name of this owner from here on."""
    token = CURRENT.set(Client(owner, never))
    yield
    CURRENT.reset(token)


async def never() -> Message:
    """Receive nothing."""
    raise AssertionError("Nothing is received.")


async def test_pictures_that_are_sent_share_a_budget(decoders: Decoders) -> None:
    """A very large one is the only one of its owner; others wait for its end, and other owners need not."""
    with owned_by("ann"):
        async with decoders.room_for_png(10**9):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), decoders.room_for_png(1):
                    pytest.fail("There was room.")
            with owned_by("bob"):
                async with decoders.room_for_png(4_000_000):
                    pass

        async with decoders.room_for_png(1), decoders.room_for_png(1):
            assert open_image(await to_png(decoders, saved(Image.new("RGB", (30, 20)), "JPEG"))).format == "PNG"
