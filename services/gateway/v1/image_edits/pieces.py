"""The JSON of answers with pictures: base64 is made from pieces of a stored picture while they are sent.

A picture of 64 megapixels can have 100 MB, and an answer has up to ten.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import pybase64
import pydantic_core

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from typing import Any

    from shared.image_store import StreamedStore
    from shared.messages import ImageRef

_GROUP_BYTES = 3


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
