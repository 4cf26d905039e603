"""The client of the current request, for code that does not depend on HTTP."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

from shared.lifecycle import race

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.types import Receive

T = TypeVar("T")


@dataclass(slots=True)
class Client:
    """The sender of the request, and the sign that the client has gone."""

    owner: str
    receive: Receive
    body_read: bool = False
    """Whether the whole body has arrived. Before that, `receive` belongs to the code that reads it."""
    release: Callable[[], Awaitable[None]] | None = None
    """Give back the memory that is reserved for the body."""


CURRENT: ContextVar[Client | None] = ContextVar("client", default=None)
"""Set by the middleware of the bodies; None outside requests."""


def current_owner() -> str:
    """Return the owner of the current request; empty outside requests."""
    client = CURRENT.get()
    return "" if client is None else client.owner


async def release_body() -> None:
    """Give back the memory reserved for the body, for a request that has dropped it and now waits for a job."""
    client = CURRENT.get()
    if client is not None and client.release is not None:
        await client.release()


async def unless_disconnected(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of the work; cancel it when the client disconnects.

    Raises ClientDisconnect and the work's errors.
    """
    client = CURRENT.get()
    if client is None or not client.body_read:
        return await work
    working, _ = await race(work, _wait_disconnect(client.receive))
    if working.cancelled():
        raise ClientDisconnect
    result: T = working.result()
    return result


async def _wait_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
