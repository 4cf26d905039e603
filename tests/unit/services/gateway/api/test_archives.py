"""ZIP archives of images."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import pytest
from starlette.responses import StreamingResponse

from services.gateway.api.archives import zip_response
from shared.errors import ImageNotFound
from tests.fakes import FakeImageStore
from tests.gateway import png

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


async def in_pieces(data: bytes, size_bytes: int) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(data), size_bytes):
        yield data[at : at + size_bytes]


async def test_an_archive_has_the_images_and_the_metadata() -> None:
    """The images are stored byte for byte, and none of them is in memory as a whole."""
    large = bytes(range(256)) * 4_000
    images = {"a.png": in_pieces(png(), 7), "b.png": in_pieces(large, 100_000)}

    response = await zip_response("session", images, {"seed": 3})
    assert isinstance(response, StreamingResponse)
    pieces = [bytes(piece) async for piece in response.body_iterator if isinstance(piece, bytes)]

    archive = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert response.headers["content-disposition"] == 'attachment; filename="session.zip"'
    assert archive.testzip() is None
    assert archive.namelist() == ["a.png", "b.png", "metadata.json"]
    assert (archive.read("a.png"), archive.read("b.png")) == (png(), large)
    assert json.loads(archive.read("metadata.json")) == {"seed": 3}
    assert max(map(len, pieces)) < 110_000


async def test_a_missing_image_is_an_error_before_the_response() -> None:
    """Not an archive that breaks off."""
    with pytest.raises(ImageNotFound):
        await zip_response("session", {"a.png": FakeImageStore().stream("debug", "0" * 64)}, {})
