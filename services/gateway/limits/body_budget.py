"""A budget of memory for all bodies in flight, so that large or slow uploads do not take the process down.

A body costs more than its length: JSON and base64 are decoded beside it, and a decoding child has a copy. A request
waits for its part with its socket unread, and keeps it until its response starts, or ends if the response is large.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from services.gateway.error_responses import error_response
from services.gateway.http.client import CURRENT, Client
from shared.memory_budget import MemoryBudget

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COPIES = 2.5
"""Memory for each byte of a body at the worst moment: the text, the decoded images, and a child's copy."""
_FREE_BYTES = 64 * 1024  # smaller bodies are not counted
_FIRST_BYTES = 1024**2  # counted for a body of unknown length until it is longer
_SMALL_RESPONSE_BYTES = 1024**2
_PIECE_BYTES = 256 * 1024  # of a response; a slow reader costs little more than one
_RETRY_AFTER_S = 5
_BUSY = "The server is receiving too much data at the moment; please try again in a few seconds."
_SLOW = "The request's body came too slowly."


class BodyBudget:
    """ASGI middleware. It responds 429 if no memory is free in time, and raises HTTPException (408) for a slow body."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit_bytes: int,
        at_once: float,
        wait_s: float,
        pause_timeout_s: float,
        rate_bytes_per_s: int,
    ) -> None:
        """One owner may have one body of `limit_bytes` or many small ones; all owners together `at_once` times that.

        A body must arrive with this rate on average, and pause for `pause_timeout_s` seconds at most.
        """
        self._app = app
        self._limit_bytes = limit_bytes
        self._share_bytes = _cost(limit_bytes)
        self._total = MemoryBudget(math.ceil(self._share_bytes * at_once))
        self._shares: WeakValueDictionary[str, MemoryBudget] = WeakValueDictionary()
        self._wait_s = wait_s
        self._pause_timeout_s = pause_timeout_s
        self._rate_bytes_per_s = rate_bytes_per_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on when there is memory for its body, or respond 429."""
        principal = scope["principal"]
        client = Client(principal.owner, receive)
        CURRENT.set(client)  # for this request only: uvicorn gives each one a task of its own
        length = _announced_length(Headers(scope=scope))
        async with AsyncExitStack() as held:
            client.release = held.aclose
            body = _Body(self, principal.key_id or principal.owner, held, length, client)
            if not await body.reserve():
                await self._discard(receive)
                headers = {"Retry-After": str(_RETRY_AFTER_S), "Connection": "close"}
                await error_response(scope["path"], 429, _BUSY, headers=headers)(scope, receive, send)
                return
            await self._app(scope, body.receive, _send_in_pieces(send, held))

    async def _discard(self, receive: Receive) -> None:
        """Read and drop the body for a while: a client that still sends at the close never sees the response."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause_timeout_s):
                while (await receive()).get("more_body"):
                    pass

    async def reserve(self, key: str, size_bytes: int, held: AsyncExitStack) -> bool:
        """Reserve the memory for a body and return True; return False if none is free in time."""
        share = self._shares.setdefault(key, MemoryBudget(self._share_bytes))
        cost = min(_cost(size_bytes), self._share_bytes)
        try:
            async with asyncio.timeout(self._wait_s):
                await held.enter_async_context(share.reserve(cost))
                await held.enter_async_context(self._total.reserve(cost))
        except TimeoutError:
            await held.aclose()
            return False
        return True

    def deadline_s(self, length: int | None) -> float:
        """Return the seconds that a body of this length may take."""
        return self._pause_timeout_s + (self._limit_bytes if length is None else length) / self._rate_bytes_per_s

    @property
    def pause_timeout_s(self) -> float:
        """Seconds that a body may pause."""
        return self._pause_timeout_s

    @property
    def limit_bytes(self) -> int:
        """The longest body."""
        return self._limit_bytes


class _Body:
    """The body of one request and its part of the budget."""

    def __init__(self, budget: BodyBudget, key: str, held: AsyncExitStack, length: int | None, client: Client) -> None:
        self._budget = budget
        self._key = key
        self._held = held
        self._length = length
        self._client = client
        self._received = 0
        self._reserved = _FIRST_BYTES if length is None else length
        self._until = asyncio.get_running_loop().time() + budget.deadline_s(length)

    async def reserve(self) -> bool:
        """Return whether the body may come."""
        if self._reserved <= _FREE_BYTES:
            return True
        reserved = await self._budget.reserve(self._key, self._reserved, self._held)
        self._until = asyncio.get_running_loop().time() + self._budget.deadline_s(self._length)
        return reserved

    async def receive(self) -> Message:
        """Return the next part; raise HTTPException (408) if it is late, (429) if there is no memory for more."""
        if self._client.body_read:
            return await self._client.receive()
        latest = min(self._until, asyncio.get_running_loop().time() + self._budget.pause_timeout_s)
        try:
            async with asyncio.timeout_at(latest):
                message = await self._client.receive()
        except TimeoutError:
            raise HTTPException(408, _SLOW, {"Connection": "close"}) from None
        self._received += len(message.get("body", b""))
        if self._received > self._reserved:
            await self._reserve_rest()
        self._client.body_read = not message.get("more_body", False)
        return message

    async def _reserve_rest(self) -> None:
        # First give back, then reserve: bodies that each keep a part and wait for more would wait for each other.
        self._reserved = max(self._budget.limit_bytes, self._received)
        await self._held.aclose()
        if not await self._budget.reserve(self._key, self._reserved, self._held):
            raise HTTPException(429, _BUSY, {"Retry-After": str(_RETRY_AFTER_S), "Connection": "close"})


def _send_in_pieces(send: Send, held: AsyncExitStack) -> Send:
    """Return a `send` that releases the budget at the start of a small response, and cuts large messages."""

    async def send_pieces(message: Message) -> None:
        if message["type"] == "http.response.start" and not _is_large(message):
            await held.aclose()
        body = message.get("body", b"")
        if len(body) <= _PIECE_BYTES:
            await send(message)
            return
        more = message.get("more_body", False)
        for at in range(0, len(body), _PIECE_BYTES):
            piece = body[at : at + _PIECE_BYTES]
            await send({**message, "body": piece, "more_body": more or at + _PIECE_BYTES < len(body)})

    return send_pieces


def _is_large(start: Message) -> bool:
    length = dict(start["headers"]).get(b"content-length", b"0")
    return int(length) > _SMALL_RESPONSE_BYTES


def _announced_length(headers: Headers) -> int | None:
    """Return the announced length of the body; None if it is unknown."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return None
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _cost(size_bytes: int) -> int:
    return math.ceil(size_bytes * COPIES)
