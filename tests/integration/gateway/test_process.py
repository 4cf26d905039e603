"""The gateway as a process, and its behaviour towards faulty clients."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from services.stack.nats_server import NatsServer
from shared import declaring
from shared.bus import open_bus
from shared.settings import NatsSettings
from tests.gateway import HOST, Client, edit, gateway, healthy
from tests.gateway import gateway_process as process
from tests.ports import free_port, free_ports
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.settings import StreamSettings

NOBODY = "nats://127.0.0.1:9"
AWAY = {"detail": "The service is not available at the moment, please try again."}


# --- as a process -------------------------------------------------------------------------------------------------


async def test_it_answers_before_there_is_a_broker_and_finds_it_when_it_comes(
    tmp_path: Path, stream_settings: StreamSettings
) -> None:
    """The status changes from degraded to healthy without a restart."""
    port, broker = free_ports(2)
    variables = {"GATEWAY_PORT": str(port), "NATS_URL": f"nats://{HOST}:{broker}"}
    async with process(**variables), Client(port) as client:
        await healthy(client, "degraded")
        early = await client.post("/api/generate/async", json=edit())
        async with NatsServer(tmp_path / "nats", broker) as server:
            async with open_bus(NatsSettings(url=server.url), "test") as bus:
                await declaring.declare_streams(bus, stream_settings)  # as the job manager does
            await healthy(client, "healthy")
            later = await client.post("/api/generate/async", json=edit())

    assert (early.status_code, early.json()) == (503, AWAY)
    assert later.status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_open_streams_and_then_the_process(bus: Bus, nats_url: str, number: signal.Signals) -> None:
    """After the drain time the stream's body ends properly and the exit code is 0."""
    assert bus.is_connected
    port = free_port()
    variables = {"GATEWAY_PORT": str(port), "GATEWAY_DRAIN_S": "0.1", "NATS_URL": nats_url}
    async with process(**variables) as running, Client(port) as client:
        await healthy(client, "healthy")
        task = await client.submit()
        async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
            first = await stream.chunk()
            running.send_signal(number)
            rest = await stream.rest()
        code = await running.wait()

    assert first.startswith(b"data: ")
    assert rest == []
    assert code == 0


async def test_a_taken_port_is_said_and_ends_the_process() -> None:
    """The exit code is that of wrong settings, so a supervisor does not restart it forever."""
    async with asyncio.timeout(TIMEOUT_S):
        server = await asyncio.start_server(lambda *_: None, HOST, 0)
        async with server, process(GATEWAY_PORT=str(server.sockets[0].getsockname()[1]), NATS_URL=NOBODY) as running:
            _, said = await running.communicate()

    assert running.returncode == 78
    assert b"gateway: Cannot listen on 127.0.0.1:" in said


async def test_a_wrong_setting_is_named() -> None:
    """The error has the variable's name."""
    async with process(GATEWAY_QUEUE_LIMIT_TOTAL="many") as running:
        _, said = await running.communicate()

    assert running.returncode == 78
    assert b"GATEWAY_QUEUE_LIMIT_TOTAL" in said


async def test_nobody_is_let_in_by_oversight(tmp_path: Path) -> None:
    """The process exits with one sentence before it listens; also for a missing key file."""
    missing = tmp_path / "keys.json"
    keyed = {"GATEWAY_KEYS_FILE": str(missing), "GATEWAY_SIGNING_KEY_FILE": str(missing)}
    said = []
    for variables in ({"GATEWAY_HOST": "0.0.0.0"}, keyed):  # noqa: S104 (refused)
        async with process(**variables, GATEWAY_PORT="0", NATS_URL=NOBODY, LOG_LEVEL="ERROR") as running:
            said.append((await running.communicate())[1].decode())
        assert running.returncode == 78

    assert said[0].startswith("gateway: Other machines can reach 0.0.0.0: set GATEWAY_KEYS_FILE")
    assert said[1] == f"gateway: GATEWAY_KEYS_FILE: cannot read {missing}: No such file or directory.\n"
    assert said[0].count("\n") == 1


async def test_idle_connections_beyond_the_descriptors_do_no_harm() -> None:
    """They are closed with one line in the log; the gateway serves again when others have gone."""
    port = free_port()
    async with process(256, GATEWAY_PORT=str(port), NATS_URL=NOBODY, LOG_LEVEL="INFO") as running:
        async with Client(port) as client:
            await healthy(client, "degraded")
        idle = [await asyncio.open_connection(HOST, port) for _ in range(400)]
        closed = [asyncio.create_task(reader.read(1), name="closed") for reader, _ in idle]
        await wait_until(lambda: sum(read.done() for read in closed) >= 272, "those beyond 128 are closed")
        for read, (_, writer) in zip(closed, idle, strict=True):
            read.cancel()
            writer.close()
        await asyncio.gather(*closed, return_exceptions=True)
        async with Client(port) as client:
            await healthy(client, "degraded")
        running.terminate()
        _, said = await running.communicate()

    assert said.count(b"http.connections_full") == 1
    assert said.count(b"\n") < 50


# --- as a server --------------------------------------------------------------------------------------------------


@pytest.fixture
async def small(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[Client]:
    """Provide a gateway with a body limit of 10,000 bytes."""
    assert bus.is_connected
    async with gateway(NatsSettings(url=nats_url), stream_settings, max_body_bytes=10_000) as client:
        yield client


async def test_a_body_without_a_length_is_counted_as_it_comes(small: Client) -> None:
    """The rest of the body is read and dropped, so that the sender receives the response."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'
        for _ in range(30):
            yield b"x" * 1000

    json = await small.post("/api/generate/async", content=chunks(), headers={"Content-Type": "application/json"})
    form = await small.post(
        "/api/image-utils/white-balance", content=chunks(), headers={"Content-Type": "multipart/form-data; boundary=x"}
    )

    assert (json.status_code, form.status_code) == (413, 413)
    assert json.headers["access-control-allow-origin"]


async def test_who_asks_first_is_refused_before_sending(small: Client) -> None:
    """`Expect: 100-continue` with a length over the limit."""
    reader, writer = await asyncio.open_connection(HOST, small.port)
    writer.write(
        b"POST /api/generate/async HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\nExpect: 100-continue\r\n\r\n"
    )
    async with asyncio.timeout(TIMEOUT_S):
        status = await reader.readline()
        await reader.read()
    writer.close()
    await writer.wait_closed()

    assert status.startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_hangs_up_while_sending_does_no_harm(small: Client) -> None:
    """The next client is served."""
    for _ in range(3):
        _, writer = await asyncio.open_connection(HOST, small.port)
        writer.write(b"POST /api/generate/async HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nhalf of it")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    answer = await small.get("/api/health")

    assert answer.status_code == 200


async def test_a_reader_that_goes_away_is_forgotten(small: Client) -> None:
    """Its stream is closed and other streams continue."""
    task = await small.submit()
    async with await small.open_stream(f"/api/generate/stream/{task}") as leaving:
        await leaving.chunk()
    async with await small.open_stream(f"/api/generate/stream/{task}") as staying:
        await staying.chunk()
        await small.post(f"/api/generate/async/cancel/{task}")
        rest = await staying.rest()

    assert b"cancelled" in rest[-1]
