"""The NATS client with a broker that hangs, replies too late, or sends data that cannot be parsed.

nats-server does not do that on request, so a few lines replace it here; all other tests use the real server.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from nats.errors import StaleConnectionError

from shared.bus import open_bus
from shared.client import HealingClient
from shared.errors import BrokerUnavailable
from shared.settings import NatsSettings

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Awaitable, Callable

    Talk: TypeAlias = Callable[[StreamReader, StreamWriter], Awaitable[None]]

MORE_THAN_A_SOCKET_TAKES = b"x" * 32 * 1024**2
PING, PONG = b"PING\r\n", b"PONG\r\n"
pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def broker(talk: Talk, **info: Any) -> AsyncIterator[str]:
    """Run a server that greets each client and then calls `talk`; yield its address."""
    greeting = json.dumps({"max_payload": 64 * 1024**2, "headers": True, **info})
    talks: list[asyncio.Task[None]] = []

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(f"INFO {greeting}\r\n".encode())
        try:
            await talk(reader, writer)
        finally:
            writer.transport.abort()

    def accept(reader: StreamReader, writer: StreamWriter) -> None:
        talks.append(asyncio.create_task(serve(reader, writer), name="broker.serve"))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


def settings(address: str) -> NatsSettings:
    """Connect to it."""
    return NatsSettings(url=f"nats://{address}")


async def answer_pings(reader: StreamReader, writer: StreamWriter) -> None:
    """Until the client goes."""
    while line := await reader.readline():
        if line == PING:
            writer.write(PONG)


async def hang(reader: StreamReader, writer: StreamWriter) -> None:
    """Accept the client, then neither read nor send until the test ends."""
    await reader.readuntil(PING)
    writer.write(PONG)
    writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket has it
    await asyncio.Event().wait()


async def test_a_chunk_of_a_picture_is_read_in_few_steps() -> None:
    """The client's own limit is 32 KiB."""
    async with broker(answer_pings) as address, open_bus(settings(address), "reader") as bus:
        reader: Any = vars(bus.client._transport)["_io_reader"]  # noqa: SLF001 (the client does not show it)

    assert vars(reader)["_limit"] == 256 * 1024


async def test_a_broker_that_refuses_is_hung_up_on() -> None:
    """Before it is asked again, though it keeps the connection open itself: else sockets would pile up."""
    callers: asyncio.Queue[StreamReader] = asyncio.Queue()
    answers = itertools.chain([PONG], itertools.repeat(b"-ERR 'maximum connections exceeded'\r\n"))
    welcome = asyncio.Event()  # set when the first client was sent away

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(PING)
        writer.write(next(answers))
        callers.put_nowait(reader)
        if welcome.is_set():
            await reader.read()
        welcome.set()
        await writer.drain()
        writer.close()

    async with broker(talk) as address, open_bus(settings(address), "x"):
        _, second, _ = [await callers.get() for _ in range(3)]
        said = await second.read()

    assert said == b""


async def test_an_answer_to_a_ping_proves_that_all_before_it_has_arrived() -> None:
    """Messages leave in the order of their calls, also within one moment: a draining subscription relies on that."""
    said: asyncio.Queue[bytes] = asyncio.Queue()

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        while line := await reader.readline():
            said.put_nowait(line.split(b" ")[0].strip())
            if line == PING:
                writer.write(PONG)

    async with broker(talk) as address, open_bus(settings(address), "x") as bus:
        await bus.emit("a")
        await bus.ping()
        order = [await said.get() for _ in range(said.qsize())]

    assert order.index(b"PUB") < len(order) - 1 - order[::-1].index(b"PING")


async def test_an_answer_that_comes_too_late_for_its_ping_does_no_harm() -> None:
    """Before the fix, the read loop of the client ended: the connection seemed healthy and received nothing."""
    asked, late = asyncio.Event(), asyncio.Event()

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(PING)
        writer.write(PONG)
        await reader.readuntil(PING)
        asked.set()
        await late.wait()
        writer.write(PONG)
        await answer_pings(reader, writer)

    async with broker(talk) as address, open_bus(settings(address), "x") as bus:
        impatient = asyncio.create_task(bus.client.flush(), name="impatient")
        await asked.wait()
        impatient.cancel()
        await asyncio.wait({impatient})
        late.set()
        await bus.ping()

        assert bus.client.stats["reconnects"] == 0


async def test_a_server_that_has_left_its_cluster_is_not_tried_any_more() -> None:
    """In Kubernetes each pod has an address of its own, and each that is gone costs two seconds at every attempt."""
    pods = [["10.0.0.1:4222", "10.0.0.2:4222"], ["10.0.0.2:4222", "10.0.0.3:4222"]]

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(PING)
        writer.write(PONG + b"INFO " + json.dumps({"connect_urls": pods[1]}).encode() + b"\r\n")
        await answer_pings(reader, writer)

    async with broker(talk, connect_urls=pods[0]) as address, open_bus(settings(address), "x") as bus:
        await bus.ping()  # after the second list
        known = {each.netloc for each in bus.client.servers}

    assert known == {address, *pods[1]}


async def test_a_limit_holds_though_the_broker_takes_nothing() -> None:
    """The client swallowed the timeout while a large message waited to be sent, and the request never ended."""
    async with broker(hang) as address, open_bus(settings(address), "x") as bus:
        with pytest.raises(BrokerUnavailable):
            await bus.request("a", MORE_THAN_A_SOCKET_TAKES, timeout_s=0.1)


async def test_a_connection_that_hangs_is_given_up() -> None:
    """Also with words that the broker has not taken; the client would wait until it has."""
    guests = iter([hang])

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        await next(guests, answer_pings)(reader, writer)

    async with broker(talk) as address, open_bus(settings(address), "x") as bus:
        with pytest.raises(BrokerUnavailable):
            await bus.request("a", MORE_THAN_A_SOCKET_TAKES, timeout_s=0.1)
        before = bus.connects
        await bus.client._process_op_err(StaleConnectionError())  # noqa: SLF001 (three pings would take half a minute)
        await bus.next_connect(before)
        await bus.ping()


async def test_nobody_queues_for_a_broker_that_hangs() -> None:
    """Least of all the ping that would find out."""
    async with broker(hang) as address, open_bus(settings(address), "x") as bus:
        with pytest.raises(BrokerUnavailable):
            await bus.request("a", MORE_THAN_A_SOCKET_TAKES, timeout_s=0.1)
        for number in range(1500):
            await bus.client.subscribe(f"a.{number}")


async def test_what_cannot_be_read_costs_one_reconnect() -> None:
    """Before the fix, the client received nothing for half a minute."""
    speak = asyncio.Event()

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(PING)
        writer.write(PONG)
        if not speak.is_set():
            await speak.wait()
            writer.write(b"MSG \xff 1 2\r\nhi\r\n")
        await answer_pings(reader, writer)

    async with broker(talk) as address, open_bus(settings(address), "x") as bus:
        before = bus.connects
        await bus.client.subscribe("a")
        speak.set()
        await bus.next_connect(before)
        await bus.ping()

        assert bus.client.stats["reconnects"] == 1


async def test_a_broker_that_lets_us_in_and_then_says_nothing_leaves_nothing_behind() -> None:
    """The client retries after ten seconds. Pings of the old connection would make it drop the next one too early."""
    visits: list[StreamReader] = []

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(PING)
        writer.write(PONG)
        visits.append(reader)
        if len(visits) != 2:  # the second time it falls silent
            await answer_pings(reader, writer)
        await reader.read()

    async with broker(talk) as address, open_bus(settings(address), "x") as bus:
        before = bus.connects
        await bus.client._process_op_err(StaleConnectionError())  # noqa: SLF001 (three pings would take half a minute)
        await bus.next_connect(before)
        running = " ".join(repr(task.get_coro()) for task in asyncio.all_tasks())

    assert len(visits) == 3
    assert (running.count("Client._ping_interval "), running.count("Client._flusher ")) == (1, 1)


async def test_a_reply_that_comes_too_late_is_not_taken_for_the_next_one() -> None:
    """Each request waits for its own reply. The header of a reply is read as it was written."""
    asked: list[bytes] = []

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(PING)
        writer.write(PONG)
        while line := await reader.readline():
            if line == PING:
                writer.write(PONG)
            if line.startswith(b"PUB"):
                asked.append(line.split()[2])
            for inbox in asked if len(asked) == 2 else ():
                header = b"NATS/1.0\r\nA: b:c \r\nb\xc3\xa4d: x\r\nno name: x\r\nD:\xc3\xa9\r\n\r\n"
                body = header + inbox.rpartition(b".")[2]
                writer.write(b"HMSG %s 1 %d %d\r\n%s\r\n" % (inbox, len(header), len(body), body))

    async with broker(talk) as address, open_bus(settings(address), "x") as bus:
        with pytest.raises(BrokerUnavailable):
            await bus.request("a", timeout_s=0.2)
        reply = await bus.request("b")

    assert reply.data == asked[1].rpartition(b".")[2]
    assert reply.headers == {"A": "b:c", "D": "é"}


async def test_a_stop_while_a_failed_attempt_is_closed_leaves_no_socket() -> None:
    """The client counts as closed then, although it has closed nothing yet."""
    ends: asyncio.Queue[bytes] = asyncio.Queue()

    async def talk(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.readuntil(PING)
        writer.write(b"-ERR 'maximum connections exceeded'\r\n")
        ends.put_nowait(await reader.read())

    async def stop(_: Exception) -> None:
        asyncio.get_running_loop().call_soon(connecting.cancel)

    client = HealingClient()
    async with broker(talk) as address:
        connecting = asyncio.create_task(client.connect(f"nats://{address}", error_cb=stop), name="connecting")
        await asyncio.wait({connecting})
        await client.close()
        rest = await ends.get()

    assert connecting.cancelled()
    assert rest == b""
