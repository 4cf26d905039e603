"""The cancellation of work after its client has disconnected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from starlette.requests import ClientDisconnect, Request

from services.gateway.http.disconnect import cancel_on_disconnect
from shared.errors import NothingFound

if TYPE_CHECKING:
    from starlette.types import Message


def request(*, hangs_up: bool) -> Request:
    """Return a request with a client that disconnects at once, or never."""

    async def receive() -> Message:
        if not hangs_up:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


async def test_the_work_is_returned() -> None:
    """The client waits."""

    async def work() -> str:
        return "done"

    assert await cancel_on_disconnect(request(hangs_up=False), work()) == "done"


async def test_a_failure_of_the_work_comes_through_as_it_is() -> None:
    """It comes out without an ExceptionGroup."""

    async def work() -> None:
        raise NothingFound

    with pytest.raises(NothingFound):
        await cancel_on_disconnect(request(hangs_up=False), work())


async def test_the_work_ends_when_the_client_hangs_up() -> None:
    """At its next await."""
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(ClientDisconnect):
        await cancel_on_disconnect(request(hangs_up=True), work())

    assert ended == [True]


async def test_work_that_is_done_already_counts() -> None:
    """Also if the client disconnects at the same moment."""

    async def work() -> str:
        return "done"

    assert await cancel_on_disconnect(request(hangs_up=True), work()) == "done"
