"""Work that is dropped when the client who asked for it hangs up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

from shared.lifecycle import race

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.requests import Request

T = TypeVar("T")


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns. Raises what it raises, and ClientDisconnect. The body must have been read."""
    working, _ = await race(work, _gone(request))
    if working.cancelled():
        raise ClientDisconnect
    result: T = working.result()
    return result


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
