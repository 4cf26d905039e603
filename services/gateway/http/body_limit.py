"""Limits the size of request bodies, announced (Content-Length) or received."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from services.gateway.error_responses import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TOO_LARGE = 413
_DISCARD_FACTOR = 8  # limits to read and drop: a client that still sends at the close never sees the response


class BodyLimit:
    """ASGI middleware. It responds 413 to an announced excess, and raises HTTPException when a body grows too large.

    It does not read the announced excess of a client without a key.
    """

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit = limit_bytes
        self._sentence = f"The request is larger than {limit_bytes / 1024**2:g} MiB."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond 413."""
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limit:
            if "expect" not in headers and scope["principal"].owner:
                await self._discard_rest(receive)
            response = error_response(scope["path"], _TOO_LARGE, self._sentence, headers={"Connection": "close"})
            await response(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                if message.get("more_body"):
                    await self._discard_rest(receive)
                raise HTTPException(_TOO_LARGE, self._sentence)
            return message

        await self._app(scope, receive_limited, send)

    async def _discard_rest(self, receive: Receive) -> None:
        discarded, more = 0, True
        while more and discarded < _DISCARD_FACTOR * self._limit:
            message = await receive()
            discarded += len(message.get("body", b""))
            more = message.get("more_body", False)
