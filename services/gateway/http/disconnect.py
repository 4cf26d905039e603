"""Work that is dropped when the client who asked for it hangs up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.requests import Request

T = TypeVar("T")


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns. Raises what it raises, and ClientDisconnect. The body must have been read."""
    try:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work, name="http.work")
            watching = group.create_task(_gone(request), name="http.hang-up")
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            watching.cancel()
    except ExceptionGroup as group_of_one:
        raise group_of_one.exceptions[0] from None
    if working.cancelled():
        raise ClientDisconnect
    return working.result()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
