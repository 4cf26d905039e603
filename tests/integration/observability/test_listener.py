"""Probes of real services: ready while they can work, not ready as soon as they cannot."""

from __future__ import annotations

import asyncio
import contextlib
import os
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from services.a100worker import service as a100worker
from services.a100worker.settings import Settings as WorkerSettings
from services.gateway import service as gateway
from services.gateway.settings import Settings as GatewaySettings
from services.imageutils import service as imageutils
from services.imageutils.settings import Settings as ImageSettings
from services.jobmanager import service as jobmanager
from services.jobmanager.settings import Settings as ManagerSettings
from services.segmentation import service as segmentation
from services.segmentation.settings import Settings as SegmentationSettings
from shared.errors import ConfigError
from shared.listener import serve_probes
from shared.settings import NatsSettings, ProbeSettings, StreamSettings
from tests.ports import free_port, free_ports
from tests.waiting import TIMEOUT_S, frozen, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from services.stack.nats_server import NatsServer
    from shared.bus import Bus

HOST = "127.0.0.1"
SERVICES = {
    "gateway": (gateway, GatewaySettings),
    "jobmanager": (jobmanager, ManagerSettings),
    "imageutils": (imageutils, ImageSettings),
    "segmentation": (segmentation, SegmentationSettings),
    "a100worker": (a100worker, WorkerSettings),
}
STARTING, LOST = (503, "The service is starting.\n"), (503, "The message broker is not available.\n")
YES = (200, "Yes.\n")


class Prober(httpx.AsyncClient):
    """Asks as Kubernetes does."""

    async def probe(self, path: str) -> tuple[int, str]:
        """Return status and sentence; the status is 0 if no process listens."""
        try:
            answer = await self.get(path)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    async def until(self, path: str, answer: tuple[int, str]) -> None:
        """Wait for an answer."""
        last = (0, "")

        async def is_given() -> bool:
            nonlocal last
            last = await self.probe(path)
            return last == answer

        try:
            await wait_until(is_given, f"{path} answers {answer}")
        except AssertionError as error:
            error.add_note(f"The last answer was {last}.")
            raise


@asynccontextmanager
async def running(name: str, nats_url: str, stream_settings: StreamSettings, **settings: Any) -> AsyncIterator[Prober]:
    """One service in this event loop, and its probes."""
    service, settings_type = SERVICES[name]
    stop, (port, http) = asyncio.Event(), free_ports(2)
    if name == "gateway":
        settings["port"] = http
    chosen = settings_type(
        nats=NatsSettings(url=nats_url), streams=stream_settings, probe=ProbeSettings(port=port), **settings
    )
    async with asyncio.TaskGroup() as group, Prober(base_url=f"http://{HOST}:{port}", timeout=TIMEOUT_S) as prober:
        group.create_task(service.run(chosen, stop), name=name)
        try:
            yield prober
        finally:
            stop.set()


@pytest.fixture(autouse=True)
def declared(bus: Bus) -> None:
    """Use a bus after the job manager created the streams."""
    assert bus.is_connected


@pytest.mark.parametrize("name", SERVICES)
async def test_a_lost_broker_makes_a_service_unready_and_not_dead(
    name: str, nats_server: NatsServer, stream_settings: StreamSettings
) -> None:
    """A restart would not bring the broker back; when it is back, so is the service."""
    async with running(name, nats_server.url, stream_settings) as prober:
        await prober.until("/readyz", YES)
        await nats_server.kill()
        await prober.until("/readyz", LOST)
        meanwhile = await prober.probe("/livez"), await prober.probe("/startupz")
        await nats_server.start()
        await prober.until("/readyz", YES)

    assert meanwhile == (YES, YES)


async def test_a_broker_that_hangs_is_noticed_and_forgiven(
    nats_server: NatsServer, stream_settings: StreamSettings
) -> None:
    """Its connections stay open, so only a ping detects it; the late reply is harmless."""
    pid = nats_server.pid
    assert pid is not None
    async with running("jobmanager", nats_server.url, stream_settings) as prober:
        await prober.until("/readyz", YES)
        async with frozen(pid):
            await prober.until("/readyz", LOST)
            alive = await prober.probe("/livez")
        await prober.until("/readyz", YES)

    assert alive == YES


async def test_without_a_broker_a_service_lives_and_is_not_started(
    nats_server: NatsServer, stream_settings: StreamSettings
) -> None:
    """It waits without a limit and names the dependency."""
    await nats_server.kill()
    async with running("imageutils", nats_server.url, stream_settings) as prober:
        await prober.until("/livez", YES)
        told = await prober.probe("/startupz"), await prober.probe("/readyz")
        await nats_server.start()
        await prober.until("/readyz", YES)

    assert told == (STARTING, LOST)


@contextmanager
def gate(path: Path) -> Iterator[Callable[[], object]]:
    """Open a pipe at both ends, so that no open blocks; yield the function that writes a byte."""
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)
    try:
        yield lambda: os.write(pipe, b"!")
    finally:
        os.close(pipe)


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"gateway"}))
async def test_a_start_that_waits_for_the_broker_has_nothing_to_drain(name: str) -> None:
    """A stop ends it at once, however long running work may take to end."""
    service, settings_type = SERVICES[name]
    stop, (port, other) = asyncio.Event(), free_ports(2)
    nobody = NatsSettings(url=f"nats://{HOST}:{other}")
    settings = settings_type(nats=nobody, probe=ProbeSettings(port=port), drain_s=3600)
    running = asyncio.create_task(service.run(settings, stop), name=name)
    try:
        async with Prober(base_url=f"http://{HOST}:{port}", timeout=TIMEOUT_S) as prober:
            await prober.until("/startupz", STARTING)
        stop.set()
        await wait_until(running.done, "it has ended")
    finally:
        running.cancel()
        await asyncio.wait({running})

    assert running.cancelled()


async def test_an_engine_that_loads_is_a_start_that_is_not_over(
    nats_url: str, stream_settings: StreamSettings, tmp_path: Path
) -> None:
    """Twenty gigabytes of weights take minutes; until they are there no job may count on this worker."""
    settings = {"backend": "tests.fakes:GatedEngine", "MODEL_DIR": tmp_path}
    with gate(tmp_path / "gate") as open_gate:
        async with running("a100worker", nats_url, stream_settings, **settings) as prober:
            try:
                await prober.until("/startupz", STARTING)
                loading = await prober.probe("/livez"), await prober.probe("/readyz")
            finally:
                open_gate()
            await prober.until("/readyz", YES)

    assert loading == (YES, STARTING)


async def test_metrics_are_scraped_where_probes_are(nats_url: str, stream_settings: StreamSettings) -> None:
    """They have the text format of Prometheus, and include the library's metrics of the process."""
    async with running("jobmanager", nats_url, stream_settings) as prober:
        await prober.until("/readyz", YES)
        answer = await prober.get("/metrics")

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "\nprocess_resident_memory_bytes " in answer.text


# --- the listener itself ------------------------------------------------------------------------------------------


async def said_to(request: bytes) -> bytes:
    """Return the whole answer of a listener to these bytes."""
    port = free_port()
    async with serve_probes(ProbeSettings(port=port), asyncio.Event()), asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /livez?verbose HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"404 Not Found"),
        (b"POST /readyz HTTP/1.1\r\nHost: x\r\n\r\n", b"405 Method Not Allowed"),
        (b"\x16\x03\x01 hello\r\n\r\n", b"400 Bad Request"),
        (b"GET /livez HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"400 Bad Request"),
    ],
    ids=["a query", "another path", "another verb", "TLS", "endless"],
)
async def test_whatever_is_sent_is_answered(request_bytes: bytes, status: bytes) -> None:
    """Each connection gets one answer and is closed."""
    answer = await said_to(request_bytes)

    assert answer.startswith(b"HTTP/1.1 " + status)


async def test_who_says_nothing_does_not_hold_up_the_end() -> None:
    """A connection that only waits is cut when the service stops."""
    port = free_port()
    async with asyncio.timeout(TIMEOUT_S):
        async with serve_probes(ProbeSettings(port=port), asyncio.Event()):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"GET ")
            await writer.drain()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_a_taken_port_is_a_wrong_setting() -> None:
    """The sentence names it."""
    port = free_port()
    async with serve_probes(ProbeSettings(port=port), asyncio.Event()):
        with pytest.raises(ConfigError, match=rf"^PROBE_PORT: cannot listen on 127\.0\.0\.1:{port}: \D+\.$"):
            async with serve_probes(ProbeSettings(port=port), asyncio.Event()):
                pass
