"""Cancels work when the client that waits for it disconnects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

from shared.lifecycle import race

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.requests import Request

T = TypeVar("T")


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of the work. Raises ClientDisconnect and the work's errors. Read the body before the call."""
    working, _ = await race(work, _wait_disconnect(request))
    if working.cancelled():
        raise ClientDisconnect
    result: T = working.result()
    return result


async def _wait_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
