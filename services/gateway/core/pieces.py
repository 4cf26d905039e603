"""The JSON of answers with pictures: base64 is made from pieces of a stored picture while they are sent.

A picture of 64 megapixels can have 100 MB, and an answer has up to ten.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import TYPE_CHECKING
from uuid import uuid4

import pybase64
import pydantic_core
from starlette.responses import Response, StreamingResponse

from services.gateway.http.image_response import STREAMED_FROM_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from typing import Any

    from pydantic import BaseModel

    from shared.image_store import StreamedStore
    from shared.messages import ImageRef

_GROUP_BYTES = 3
_PLACE = re.compile("(picture-[0-9a-f]{32})")
_JSON = "application/json"


class Pictures:
    """The stored pictures of a body. A random placeholder stands for each, until the body is sent."""

    def __init__(self, images: StreamedStore) -> None:
        self._images = images
        self._placed: dict[str, ImageRef] = {}

    def place(self, ref: ImageRef) -> str:
        """Return the placeholder for the base64 of a picture."""
        text = f"picture-{uuid4().hex}"
        self._placed[text] = ref
        return text

    async def answer(self, body: BaseModel) -> Response:
        """Return the body as JSON with its pictures; a large one is read as it is sent.

        Raises ImageNotFound if the first picture is missing, BrokerUnavailable.
        """
        texts = _PLACE.split(body.model_dump_json())
        parts = [self._placed.get(text) or text.encode() for text in texts]
        if length_of(parts) <= STREAMED_FROM_BYTES:
            return Response(b"".join([await self._read(part) for part in parts]), media_type=_JSON)
        pieces = join_parts(self._images, parts)
        first = await anext(pieces) + await anext(pieces)  # before the response: the picture may be missing
        headers = {"Content-Length": str(length_of(parts))}
        return StreamingResponse(prepend(first, pieces), headers=headers, media_type=_JSON)

    async def _read(self, part: bytes | ImageRef) -> bytes:
        if isinstance(part, bytes):
            return part
        return pybase64.b64encode(await self._images.get(part.bucket, part.sha256))


async def prepend(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield one piece, which was read early, and the rest."""
    yield first
    async with aclosing(rest):
        async for piece in rest:
            yield piece


def wrap_picture(facts: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return the JSON of an object before and after its first value `b64_json`; `facts` are its other values."""
    return b'{"b64_json":"', b'",' + pydantic_core.to_json(facts).removeprefix(b"{")


def length_of(parts: Sequence[bytes | ImageRef]) -> int:
    """Return the number of bytes that the parts have when pictures are base64."""
    return sum(len(part) if isinstance(part, bytes) else -(-part.size_bytes // _GROUP_BYTES) * 4 for part in parts)


async def join_parts(images: StreamedStore, parts: Sequence[bytes | ImageRef]) -> AsyncGenerator[bytes, None]:
    """Yield the parts, pictures as base64. Raises ImageNotFound, BrokerUnavailable."""
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        async with aclosing(encode_base64(images.stream(part.bucket, part.sha256))) as encoded:
            async for piece in encoded:
                yield piece


async def encode_base64(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the base64 of all pieces together."""
    rest = b""
    async with aclosing(pieces):
        async for piece in pieces:
            data = rest + piece if rest else piece
            whole = len(data) - len(data) % _GROUP_BYTES
            rest = data[whole:]
            yield pybase64.b64encode(memoryview(data)[:whole])
    if rest:
        yield pybase64.b64encode(rest)
