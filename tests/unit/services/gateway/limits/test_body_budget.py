"""The budget of memory for the bodies of requests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from services.gateway.access.principal import LOCAL, Principal
from services.gateway.http.client import current_owner, unless_disconnected
from services.gateway.limits.body_budget import BodyBudget
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIB = 1024**2
ALICE, BOB = (Principal(owner=name, key_id=name, scopes=LOCAL.scopes) for name in ("alice", "bob"))


class Exchange:
    """A request by hand: the test sends its body, part by part, and sees the reads and the answer."""

    def __init__(self, app: ASGIApp, principal: Principal, length: int | None) -> None:
        header = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", str(length).encode())
        self._scope: Scope = {
            "type": "http", "method": "POST", "path": "/v1/images", "headers": [header], "principal": principal
        }  # fmt: skip
        self._app = app
        self._parts: asyncio.Queue[Message] = asyncio.Queue()
        self.reads = 0
        self.sent: list[Message] = []

    def arrive(self, size: int, *, more: bool) -> None:
        """Let a part of the body arrive."""
        self._parts.put_nowait({"type": "http.request", "body": bytes(size), "more_body": more})

    def disconnect(self) -> None:
        """Disconnect."""
        self._parts.put_nowait({"type": "http.disconnect"})

    async def run(self) -> None:
        """Serve the request."""
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        self.reads += 1
        return await self._parts.get()

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        """The status, once the response has started."""
        return self.sent[0]["status"] if self.sent else None


class App:
    """Reads the body, waits for `finish`, and answers; it counts the requests that read or wait."""

    def __init__(self, answer: bytes = b"", work: Callable[[], Any] | None = None) -> None:
        self.finish = asyncio.Event()
        self.running = 0
        self.owners: list[str] = []
        self._answer = answer
        self._work = work

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.running += 1
        try:
            while (await receive()).get("more_body"):
                pass
            self.owners.append(current_owner())
            if self._work is not None:
                await self._work()
            await self.finish.wait()
            length = str(len(self._answer)).encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
            await send({"type": "http.response.body", "body": self._answer})
        finally:
            self.running -= 1


def budget(app: ASGIApp, **limits: Any) -> BodyBudget:
    chosen = {"limit_bytes": 8 * MIB, "at_once": 1.5, "wait_s": 60.0, "pause_timeout_s": 60.0, "rate_bytes_per_s": 1024}
    return BodyBudget(app, **{**chosen, **limits})


@asynccontextmanager
async def serve(*exchanges: Exchange) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Serve the requests during the block."""
    tasks = [asyncio.create_task(exchange.run(), name="exchange") for exchange in exchanges]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_largest_body_always_fits() -> None:
    """It is the whole share of its owner."""
    app = App()
    exchange = Exchange(budget(app), ALICE, 8 * MIB)
    exchange.arrive(8 * MIB, more=False)
    app.finish.set()
    await exchange.run()

    assert exchange.status == 200
    assert app.owners == ["alice"]


async def test_a_second_one_waits_unread() -> None:
    """Until the first has its response."""
    app = App()
    limited = budget(app)
    first, second = (Exchange(limited, ALICE, 8 * MIB) for _ in range(2))
    async with serve(first, second) as tasks:
        first.arrive(8 * MIB, more=False)
        second.arrive(8 * MIB, more=False)
        await wait_until(lambda: first.reads == 1, "the first body is read")
        before = app.running, second.reads
        app.finish.set()
        await asyncio.gather(*tasks)

    assert before == (1, 0)
    assert (first.status, second.status) == (200, 200)


async def test_after_a_vain_wait_it_is_refused() -> None:
    """With 429 and the time until the next try. The body is dropped first, or its sender would miss the response."""
    app = App()
    limited = budget(app, wait_s=0.05)
    first, second = (Exchange(limited, ALICE, 8 * MIB) for _ in range(2))
    second.arrive(4 * MIB, more=True)
    second.arrive(4 * MIB, more=False)
    async with serve(first):
        await wait_until(lambda: first.reads, "the first has its memory")
        await second.run()
        running = app.running

    assert second.status == 429
    assert dict(second.sent[0]["headers"])[b"retry-after"] == b"5"
    assert second.reads == 2
    assert running == 1


async def test_a_refused_body_that_does_not_come_is_not_awaited_for_long() -> None:
    """The response follows after the timeout of a pause."""
    limited = budget(App(), wait_s=0.05, pause_timeout_s=0.1)
    first, second = (Exchange(limited, ALICE, 8 * MIB) for _ in range(2))
    first.arrive(8 * MIB, more=False)
    async with serve(first):
        await wait_until(lambda: first.reads, "the first has its memory")
        await second.run()

    assert second.status == 429


async def test_one_owner_leaves_memory_to_the_others() -> None:
    """Unfinished bodies of one key take its share only."""
    app = App()
    limited = budget(app)
    greedy = [Exchange(limited, ALICE, 4 * MIB) for _ in range(8)]
    modest = Exchange(limited, BOB, 2 * MIB)
    async with serve(*greedy):
        await wait_until(lambda: app.running == 2, "two of them have their memory")
        modest.arrive(2 * MIB, more=False)
        app.finish.set()
        await modest.run()

    assert modest.status == 200
    assert sum(exchange.reads for exchange in greedy) == 2


async def test_small_bodies_wait_for_nothing() -> None:
    """Orders by hash pass while the budget is used up."""
    app = App()
    limited = budget(app)
    large, small = Exchange(limited, ALICE, 8 * MIB), Exchange(limited, ALICE, 300)
    async with serve(large):
        await wait_until(lambda: app.running, "the large one has its memory")
        small.arrive(300, more=False)
        app.finish.set()
        await small.run()

    assert small.status == 200


async def test_a_body_of_unknown_length_counts_when_it_grows() -> None:
    """First as a small one, then as the largest, for which it waits like any other."""
    app = App()
    limited = budget(app, wait_s=0.05)
    large, growing = Exchange(limited, ALICE, 7 * MIB), Exchange(limited, ALICE, None)
    async with serve(large):
        await wait_until(lambda: large.reads, "the large one has its memory")
        growing.arrive(MIB // 2, more=True)
        growing.arrive(MIB, more=True)
        with pytest.raises(HTTPException) as refused:
            await growing.run()

    assert refused.value.status_code == 429


@pytest.mark.parametrize(
    "limits", [{"pause_timeout_s": 0.05}, {"pause_timeout_s": 0.05, "rate_bytes_per_s": 10**9}], ids=["pause", "rate"]
)
async def test_a_slow_body_is_refused(limits: dict[str, Any]) -> None:
    """Because it keeps memory from others."""
    exchange = Exchange(budget(App(), **limits), ALICE, MIB)
    exchange.arrive(10, more=True)

    with pytest.raises(HTTPException) as refused:
        await exchange.run()
    assert refused.value.status_code == 408


async def test_a_request_without_a_body_is_not_counted() -> None:
    """Nor does it wait."""
    app = App()
    limited = budget(app)
    large, empty = Exchange(limited, ALICE, 8 * MIB), Exchange(limited, ALICE, 0)
    async with serve(large):
        await wait_until(lambda: app.running, "the large one has its memory")
        empty.arrive(0, more=False)
        app.finish.set()
        await empty.run()

    assert empty.status == 200


async def test_a_large_response_is_sent_in_pieces() -> None:
    """A slow reader costs a piece; together they are the body."""
    app = App(answer=bytes(range(256)) * 4096 * 3)
    app.finish.set()
    exchange = Exchange(budget(app), ALICE, 10)
    exchange.arrive(10, more=False)
    await exchange.run()
    pieces = exchange.sent[1:]

    assert b"".join(piece["body"] for piece in pieces) == bytes(range(256)) * 4096 * 3
    assert max(len(piece["body"]) for piece in pieces) == 256 * 1024
    assert [piece["more_body"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]


async def test_work_ends_when_the_client_hangs_up() -> None:
    """As soon as the body has been read, the connection is watched."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    exchange = Exchange(budget(App(work=lambda: unless_disconnected(work()))), ALICE, 10)
    exchange.arrive(10, more=False)
    exchange.disconnect()

    with pytest.raises(ClientDisconnect):
        await exchange.run()
    assert ended.is_set()
