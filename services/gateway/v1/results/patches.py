"""The patch of a result: its changed rectangle as a picture of its own, and the headers with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.http.image_response import image_response
from shared.errors import ImageNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from services.gateway.v1.openapi_responses import Responses
    from shared.image_store import StreamedStore
    from shared.messages import Done

_X, _Y = "X-Patch-X", "X-Patch-Y"
_HEADERS = {
    name: {
        "description": f"With `patch`: the picture's place in the result, pixels from the {edge}.",
        "schema": {"type": "integer", "minimum": 0},
    }
    for name, edge in ((_X, "left"), (_Y, "top"))
}


async def patch_response(images: StreamedStore, done: Done, headers_sent: Mapping[str, str]) -> Response:
    """Return the patch of a result, or the whole result at 0, 0 if there is none. Raises as `image_response`.

    There is none of an edit of the whole photo or of a large part of it, and the store may have dropped it.
    """
    if done.patch is not None and done.changed_box is not None:
        x, y, *_ = done.changed_box
        try:
            return await image_response(images, done.patch, headers_sent, _place(x, y))
        except ImageNotFound:
            pass
    return await image_response(images, done.result, headers_sent, _place(0, 0))


def with_place(responses: Responses) -> Responses:
    """Document the headers of a patch in the responses that have a picture."""
    return {
        status: response | {"headers": _HEADERS} if status in {200, 206, 304} else response
        for status, response in responses.items()
    }


def _place(x: int, y: int) -> dict[str, str]:
    return {_X: str(x), _Y: str(y)}
