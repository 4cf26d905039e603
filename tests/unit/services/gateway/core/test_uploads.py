"""Uploads: accepted images, refused images and their error texts."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NoReturn

import pytest
from PIL import Image

from services.gateway.access.ownership import SingleOwner
from services.gateway.core.uploads import Uploads
from shared.bus import Bus
from shared.errors import BadImage, BadInput, TooLarge
from tests.gateway import b64, mask_png, png, saved

if TYPE_CHECKING:
    from services.gateway.decoding.decoders import Decoders

BLOB = "Image: this is an address inside your browser, not an image; return to the original photo and try again."


class NoStore:
    """A store that must not be used: images are stored after all checks."""

    async def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError

    put = get = head = describe = make_room = has_ample_room = _refuse


@pytest.fixture
async def uploads(decoders: Decoders) -> Uploads:
    return Uploads(NoStore(), SingleOwner(Bus()), NoStore(), decoders)


def giant_header() -> bytes:
    """Return a PNG that states 30,000 by 30,000 pixels and has none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(b""))
    whole = (struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def many_frames(file_format: str) -> bytes:
    """Return an animation; only its first frame is used."""
    frames = [Image.new("L", (8, 8), shade) for shade in range(200)]
    return saved(frames[0], file_format, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
async def test_every_format_is_known_by_its_content(uploads: Uploads, file_format: str) -> None:
    """The data URL's media type is ignored."""
    data = saved(Image.new("RGB", (20, 10), "red"), file_format)
    upload = await uploads.read("data:text/plain;base64," + b64(data), "Image")

    assert upload.data == data
    assert (upload.ref.width, upload.ref.height, upload.ref.size_bytes) == (20, 10, len(data))
    assert upload.ref.content_type == f"image/{file_format.lower()}"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
async def test_every_kind_of_pixel_is_taken(uploads: Uploads, mode: str) -> None:
    """The services turn them into RGB."""
    upload = await uploads.read(b64(saved(Image.new(mode, (9, 9)))), "Image")

    assert upload.ref.width == 9


@pytest.mark.parametrize("file_format", ["GIF", "PNG"])
async def test_of_an_animation_the_first_frame_counts(uploads: Uploads, file_format: str) -> None:
    """It is also an empty mask, because it is black."""
    mask = await uploads.read_mask(b64(many_frames(file_format)), "Mask")

    assert mask is None


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("", BadInput, "The request has no image; send it as base64."),
        ("data:image/png;base64,", BadInput, "The request has no image; send it as base64."),
        ("ab!d", BadImage, "Image: this is not valid base64."),
        ("abc", BadImage, "Image: this is not valid base64."),
        ("grün", BadImage, "Image: this is not valid base64."),
        (b64(b"hello"), BadImage,
         "Image: the file is not a readable image (PNG, JPEG, WEBP, BMP, GIF, TIFF, ICO, AVIF, HEIF)."),
        (b64(png()[:-30]), BadImage, "Image: the image is damaged or incomplete."),
        (b64(saved(Image.effect_noise((99, 99), 9), "JPEG")[:-999]), BadImage,
         "Image: the image is damaged or incomplete."),
        (b64(giant_header()), TooLarge,
         "Image: the image is 30000 x 30000 pixels; at most 32767 a side and 67 megapixels are accepted."),
        ("blob:http://localhost:3000/1", BadImage, BLOB),
    ],
)  # fmt: skip
async def test_what_is_no_picture_is_refused(uploads: Uploads, text: str, error: type[BadInput], sentence: str) -> None:
    """The error is one sentence with the field's name."""
    with pytest.raises(error) as refused:
        await uploads.read(text, "Image")

    assert type(refused.value) is error
    assert refused.value.message == sentence


async def test_a_mask_that_marks_nothing_is_none(uploads: Uploads) -> None:
    """A mask with a single bright pixel is not empty."""
    nothing = await uploads.read_mask(b64(mask_png(box=None)), "Mask")
    something = await uploads.read_mask(b64(mask_png(box=(5, 5, 5, 5))), "Mask")

    assert nothing is None
    assert something is not None


async def test_a_mask_that_comes_again_is_judged_alike(uploads: Uploads) -> None:
    """It is decoded once; more masks than the cache holds are handled as well."""
    first = [await uploads.read_mask(b64(mask_png((40, 30), box)), "Mask") for box in (None, (1, 1, 2, 2))]
    for width in range(1, 1100):
        await uploads.read_mask(b64(png("white", (width, 1), "L")), "Mask")
    again = [await uploads.read_mask(b64(mask_png((40, 30), box)), "Mask") for box in (None, (1, 1, 2, 2))]

    assert first[0] is None
    assert first == again
