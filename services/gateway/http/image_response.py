"""The bytes of a stored picture as an HTTP answer: named by their hash, kept for ever, whole or in part (RFC 9110)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.image_store import ImageStore
    from shared.messages import ImageRef

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_FOR_EVER = "private, max-age=31536000, immutable"  # a hash never names another picture


def image_headers(ref: ImageRef) -> dict[str, str]:
    """Return the headers that hold for the picture, however much of it is sent."""
    return {
        "ETag": f'"{ref.sha256}"',
        "Cache-Control": _FOR_EVER,
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }


async def image_response(images: ImageStore, ref: ImageRef, asked: Mapping[str, str]) -> Response:
    """Answer with the picture, or with what the headers of the request ask for of it.

    Raises HTTPException (416) for a range behind its end, ImageNotFound, BrokerUnavailable.
    """
    headers = image_headers(ref)
    if _names(asked.get("if-none-match", ""), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    span = _span(asked, headers["ETag"], ref.size_bytes)
    data = await images.get(ref.bucket, ref.sha256)
    if span is None:
        return Response(data, media_type=ref.content_type, headers=headers)
    start, stop = span
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Response(data[start:stop], status_code=206, media_type=ref.content_type, headers=headers)


def _names(header: str, etag: str) -> bool:
    return any(part.strip().removeprefix("W/") in {etag, "*"} for part in header.split(","))


def _span(asked: Mapping[str, str], etag: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one behind the last; None for all. Several ranges at once are not supported."""
    if asked.get("if-range", etag) != etag:
        return None
    span = parse_range(asked.get("range", ""), size)
    if span is not None and span[0] >= span[1]:
        raise HTTPException(416, f"The picture has {size} bytes.", {"Content-Range": f"bytes */{size}"})
    return span


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Read `bytes=first-last`, `bytes=first-` or `bytes=-count`; None if it is none of them, empty if out of reach."""
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
