"""No request may be larger than the limit: by what it announces, and by what really comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from services.gateway.error_responses import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TOO_LARGE = 413
_PATIENCE = 8  # times the limit is read and dropped: who is still sending when we hang up never sees the answer


class BodyLimit:
    """ASGI middleware. An announced excess is refused here, one that only shows while reading raises HTTPException.

    What somebody without a key announces is not even read.
    """

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit = limit_bytes
        self._sentence = f"The request is larger than {limit_bytes / 1024**2:g} MiB."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413."""
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limit:
            if "expect" not in headers and scope["principal"].owner:
                await self._drop_rest(receive)
            answer = error_response(scope["path"], _TOO_LARGE, self._sentence, headers={"Connection": "close"})
            await answer(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                if message.get("more_body"):
                    await self._drop_rest(receive)
                raise HTTPException(_TOO_LARGE, self._sentence)
            return message

        await self._app(scope, counted, send)

    async def _drop_rest(self, receive: Receive) -> None:
        dropped, more = 0, True
        while more and dropped < _PATIENCE * self._limit:
            message = await receive()
            dropped += len(message.get("body", b""))
            more = message.get("more_body", False)
