"""Serves a stored image over HTTP: ETag from its hash, immutable, whole or a range (RFC 9110)."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from shared.image_store import StreamedStore
    from shared.messages import ImageRef

STREAMED_FROM_BYTES = 2 * 1024**2
"""A larger image is not kept in memory for a slow reader."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_IMMUTABLE = "private, max-age=31536000, immutable"  # a hash always names the same image


def image_headers(ref: ImageRef) -> dict[str, str]:
    """Return the headers of every response with this image, whole or partial."""
    notes = {"X-Notes": "; ".join(ref.notes)} if ref.notes else {}
    return {
        **notes,
        "ETag": f'"{ref.sha256}"',
        "Cache-Control": _IMMUTABLE,
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }


async def image_response(
    images: StreamedStore,
    ref: ImageRef,
    headers_sent: Mapping[str, str],
    more: Mapping[str, str] | None = None,
    *,
    has_body: bool = True,
) -> Response:
    """Return the image, a range of it or 304, as the request's headers ask; a large one is read as it is sent.

    `more` are further headers of the response; that to HEAD has no body. Raises HTTPException (416) for a range beyond
    its end, ImageNotFound, BrokerUnavailable.
    """
    headers = image_headers(ref) | dict(more or {})
    if _matches(headers_sent.get("if-none-match", ""), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    span = _span(headers_sent, headers["ETag"], ref.size_bytes)
    if ref.size_bytes > STREAMED_FROM_BYTES:
        return await _stream(images, ref, headers, span, has_body=has_body)
    data = await images.get(ref.bucket, ref.sha256)
    if span is None:
        return Response(data, media_type=ref.content_type, headers=headers)
    start, stop = span
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Response(data[start:stop], status_code=206, media_type=ref.content_type, headers=headers)


async def whole_image(images: StreamedStore, ref: ImageRef, headers: dict[str, str]) -> Response:
    """Return the whole image with these headers. Raises ImageNotFound, BrokerUnavailable."""
    if ref.size_bytes > STREAMED_FROM_BYTES:
        return await _stream(images, ref, headers, None)
    return Response(await images.get(ref.bucket, ref.sha256), media_type=ref.content_type, headers=headers)


async def _stream(
    images: StreamedStore,
    ref: ImageRef,
    headers: dict[str, str],
    span: tuple[int, int] | None,
    *,
    has_body: bool = True,
) -> Response:
    start, stop = span or (0, ref.size_bytes)
    headers = {**headers, "Content-Length": str(stop - start)}
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{ref.size_bytes}"
    status = 200 if span is None else 206
    pieces = images.stream(ref.bucket, ref.sha256)
    first = await anext(pieces)  # before the response: the image may be missing
    if not has_body:  # the server would read all pieces and drop them
        await pieces.aclose()
        return Response(None, status, headers, ref.content_type)
    body = _cut(first, pieces, start, stop)
    return StreamingResponse(body, status, headers, ref.content_type)


async def _cut(first: bytes, rest: AsyncGenerator[bytes, None], start: int, stop: int) -> AsyncIterator[bytes]:
    """Yield the bytes from `start` to `stop` of the pieces."""
    async with aclosing(rest):
        at, piece = 0, first
        while True:
            if part := piece[max(0, start - at) : max(0, stop - at)]:
                yield part
            at += len(piece)
            if at >= stop:
                return
            piece = await anext(rest)


def _matches(header: str, etag: str) -> bool:
    return any(part.strip().removeprefix("W/") in {etag, "*"} for part in header.split(","))


def _span(headers_sent: Mapping[str, str], etag: str, size: int) -> tuple[int, int] | None:
    """Return start and stop of the requested bytes, None for all. Several ranges in one request are not supported."""
    if headers_sent.get("if-range", etag) != etag:
        return None
    span = parse_range(headers_sent.get("range", ""), size)
    if span is not None and span[0] >= span[1]:
        raise HTTPException(416, f"The image has only {size} bytes.", {"Content-Range": f"bytes */{size}"})
    return span


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return start and stop of `bytes=first-last`, `bytes=first-` or `bytes=-count`.

    None for any other header; an empty range if it lies beyond the end.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if not last:
        return int(first), size
    if int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1)
