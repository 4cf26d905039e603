"""Pictures in JSON: the bytes are those of one text, and a large body is never in memory as a whole."""

from __future__ import annotations

import base64
import json
import os

import pytest
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from services.gateway.core.pieces import Pictures
from services.gateway.http.image_response import STREAMED_FROM_BYTES
from shared.errors import ImageNotFound
from shared.image_store import digest
from shared.messages import ImageRef
from tests.fakes import FakeImageStore


class Body(BaseModel):
    """Two pictures among words."""

    first: str
    words: str
    second: str


async def store(images: FakeImageStore, size_bytes: int) -> tuple[ImageRef, str]:
    """Store a picture; return it with its base64."""
    data = os.urandom(size_bytes)
    ref = ImageRef(
        bucket="cache", sha256=await digest(data), content_type="image/png", width=4, height=3, size_bytes=size_bytes
    )
    return await images.put("cache", data, ref), base64.b64encode(data).decode()


async def read(answer: Response) -> list[bytes]:
    if not isinstance(answer, StreamingResponse):
        return [bytes(answer.body)]
    return [bytes(piece) async for piece in answer.body_iterator if isinstance(piece, bytes)]


@pytest.mark.parametrize("size_bytes", [100, 3 * STREAMED_FROM_BYTES + 1], ids=["small", "large"])
async def test_pictures_take_their_places(size_bytes: int) -> None:
    """The text is the one of the same body with base64; other words that look like a place stay."""
    images = FakeImageStore()
    pictures = Pictures(images)
    words = 'a "quoted" picture-' + "0" * 32
    refs = [await store(images, size_bytes), await store(images, 5)]
    places = [pictures.place(ref) for ref, _ in refs]

    answer = await pictures.answer(Body(first=places[0], words=words, second=places[1]))
    pieces = await read(answer)

    whole = b"".join(pieces)
    assert whole == Body(first=refs[0][1], words=words, second=refs[1][1]).model_dump_json().encode()
    assert int(answer.headers["content-length"]) == len(whole)
    assert answer.headers["content-type"] == "application/json"
    assert max(map(len, pieces)) < STREAMED_FROM_BYTES * 4 // 3


async def test_a_missing_picture_is_an_error_before_the_response() -> None:
    """Not a body that breaks off."""
    images = FakeImageStore()
    pictures = Pictures(images)
    ref, _ = await store(images, 5)
    lost = ref.model_copy(update={"sha256": "0" * 64, "size_bytes": 2 * STREAMED_FROM_BYTES})

    for one in (lost, lost.model_copy(update={"size_bytes": 5})):
        with pytest.raises(ImageNotFound):
            await pictures.answer(Body(first=pictures.place(one), words="", second=pictures.place(ref)))


async def test_a_body_without_pictures_is_plain_json() -> None:
    """As an error of the older routes, which has status 200."""
    answer = await Pictures(FakeImageStore()).answer(Body(first="", words="no", second=""))

    assert json.loads(bytes(answer.body)) == {"first": "", "words": "no", "second": ""}
