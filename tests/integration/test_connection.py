"""What is told of a connection that comes and goes."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING

from shared.bus import open_bus
from shared.settings import NatsSettings
from tests.waiting import wait_until

if TYPE_CHECKING:
    import pytest

    from services.nats_server import NatsServer
    from shared.bus import Bus


async def test_a_broker_that_is_away_is_told_of_once(
    bus: Bus, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with each of four attempts a second, but again the next time that it is away."""

    def told() -> int:
        return sum("Connect call failed" in vars(record).get("reason", "") for record in caplog.records)

    for times in (1, 2):
        await nats_server.kill()
        tries = bus.client._server_pool[0]  # noqa: SLF001 (nobody else counts them)
        before = tries.reconnects
        await wait_until(lambda: tries.reconnects >= before + 4, "it has been tried again and again")  # noqa: B023
        assert told() == times
        await nats_server.start()
        await wait_until(bus.up.is_set, "it is back")


async def test_a_broker_that_refuses_is_hung_up_on() -> None:
    """Before it is asked again, though it keeps the connection open itself: else sockets would pile up."""
    callers: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload":1048576}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.write(next(answers))
        callers.put_nowait(reader)
        if welcome.is_set():
            await reader.read()
        welcome.set()
        writer.close()

    welcome = asyncio.Event()  # to the first, who is sent away again
    answers = itertools.chain([b"PONG\r\n"], itertools.repeat(b"-ERR 'maximum connections exceeded'\r\n"))
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_bus(NatsSettings(url=f"nats://127.0.0.1:{port}"), "x"), asyncio.timeout(30):
            _, second, _ = [await callers.get() for _ in range(3)]
            said = await second.read()

    assert said == b""


async def test_an_answer_to_a_ping_proves_that_all_before_it_has_arrived() -> None:
    """What is said first leaves first, also in one breath: a drained subscription relies on that."""
    said: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload":1048576}\r\n')
        while line := await reader.readline():
            said.put_nowait(line.split(b" ")[0].strip())
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(30), open_bus(NatsSettings(url=f"nats://127.0.0.1:{port}"), "x") as bus:
            await bus.emit("a")
            await bus.ping()
            order = [await said.get() for _ in range(said.qsize())]

    assert order[-3:] == [b"PUB", b"", b"PING"]


async def test_an_answer_that_comes_too_late_for_its_ping_does_no_harm() -> None:
    """The client's read loop used to die of it: the connection looked well, and heard nothing any more."""
    asked, late = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload":1048576}\r\n')
        pings = 0
        while line := await reader.readline():
            if line == b"PING\r\n":
                pings += 1
                if pings == 2:
                    asked.set()
                    await late.wait()
                writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(30), open_bus(NatsSettings(url=f"nats://127.0.0.1:{port}"), "x") as bus:
            impatient = asyncio.create_task(bus.client.flush(), name="impatient")
            await asked.wait()
            impatient.cancel()
            await asyncio.wait({impatient})
            late.set()
            await bus.ping()


async def test_a_server_that_has_left_its_cluster_is_not_tried_any_more() -> None:
    """In Kubernetes each pod has an address of its own, and each that is gone costs two seconds at every attempt."""
    pods = [["10.0.0.1:4222", "10.0.0.2:4222"], ["10.0.0.2:4222", "10.0.0.3:4222"]]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for listed in pods:
            writer.write(b"INFO " + json.dumps({"max_payload": 1048576, "connect_urls": listed}).encode() + b"\r\n")
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asyncio.timeout(30), open_bus(NatsSettings(url=f"nats://{address}"), "x") as bus:
            await bus.ping()  # after the second list
            known = {each.netloc for each in bus.client.servers}

    assert known == {address, *pods[1]}
