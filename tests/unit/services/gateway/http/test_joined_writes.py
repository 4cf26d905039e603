"""The head of a response and its body are sent in one write."""

from __future__ import annotations

import asyncio

from services.gateway.http.protocol import JoinedWrites


class Recorded(asyncio.Transport):
    """Notes each system call that a transport would make."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note the data."""
        self.calls.append(bytes(data))

    def close(self) -> None:
        """Note the close."""
        self.calls.append(b"closed")

    def is_closing(self) -> bool:
        """Return whether it was closed."""
        return b"closed" in self.calls


async def end_of_turn() -> None:
    """Return when the loop has done all that was due."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_soon(over.set)
    await over.wait()


async def test_a_head_and_its_body_are_one_write() -> None:
    """Each system call costs as much as the parsing of a request."""
    transport = Recorded()
    joined = JoinedWrites(transport, asyncio.get_running_loop())

    joined.write(b"head ")
    joined.write(b"body")

    assert transport.calls == [b"head body"]


async def test_a_write_alone_leaves_at_the_end_of_the_turn() -> None:
    """An event of a stream waits for no other."""
    transport = Recorded()
    joined = JoinedWrites(transport, asyncio.get_running_loop())

    joined.write(b"event")
    held = list(transport.calls)
    await end_of_turn()

    assert (held, transport.calls) == ([], [b"event"])


async def test_a_large_write_is_not_held() -> None:
    """It would be memory that the limits of the transport do not see."""
    transport = Recorded()
    joined = JoinedWrites(transport, asyncio.get_running_loop())

    joined.write(bytes(100_000))

    assert transport.calls == [bytes(100_000)]


async def test_nothing_is_lost_at_a_close() -> None:
    """Held bytes are sent before the close, and nothing after it."""
    transport = Recorded()
    joined = JoinedWrites(transport, asyncio.get_running_loop())

    joined.write(b"last")
    joined.close()
    await end_of_turn()

    assert (transport.calls, joined.is_closing()) == ([b"last", b"closed"], True)
