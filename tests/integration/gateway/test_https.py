"""HTTPS as `make run-https` serves it: Caddy with deploy/Caddyfile before the gateway's own server."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from services.gateway.access.forwarded import public_path
from services.gateway.http.server import Server, listen
from services.gateway.settings import Settings
from services.stack.caddy import HTTPS_HOST, Caddy
from services.stack.process import ROOT, ProcessGroup
from tests.ports import free_port, free_ports
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

STREAMS = 20  # more than three times the limit of a browser over HTTP/1
LIMIT_BYTES = 64 * 1024**2
READY_S = 60.0  # for a loaded machine


class App:
    """The app of the server: it returns the address of a request as it sees it, and streams when the test allows."""

    def __init__(self) -> None:
        self.open = 0
        self.go = asyncio.Event()
        paths = {"/api/system/health": self._health, "/seen": self._seen, "/stream": self._stream, "/eat": self._eat}
        self.asgi = Starlette(routes=[Route(path, to, methods=["GET", "POST"]) for path, to in paths.items()])

    async def _health(self, _: Request) -> JSONResponse:
        return JSONResponse({"status": "healthy"})

    async def _seen(self, request: Request) -> JSONResponse:
        client = request.client and request.client.host
        return JSONResponse({"scheme": request.url.scheme, "client": client, "prefix": public_path("")})

    async def _eat(self, request: Request) -> JSONResponse:
        return JSONResponse({"bytes": len(await request.body())})

    async def _stream(self, _: Request) -> StreamingResponse:
        return StreamingResponse(self._frames(), media_type="text/event-stream")

    async def _frames(self) -> AsyncIterator[str]:
        self.open += 1
        try:
            yield "data: first\n\n"
            await self.go.wait()
            yield "data: last\n\n"
        finally:
            self.open -= 1


@asynccontextmanager
async def serving(app: App, port: int, trusted: str = HTTPS_HOST) -> AsyncIterator[None]:
    """Run the server of the gateway with this app."""
    settings = Settings(port=port, trusted_proxies=trusted)
    server = Server(app.asgi, settings)
    with listen(settings) as socket:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([socket]), name="server")
            try:
                yield
            finally:
                app.go.set()
                server.stop()


class Front:
    """Caddy on its port, and clients that trust its authority."""

    def __init__(self, caddy: Caddy, gateway_port: int) -> None:
        self.caddy = caddy
        self.gateway_port = gateway_port

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Return a client that connects through Caddy, over one connection."""
        trust = ssl.create_default_context(cafile=self.caddy.root)
        return httpx.AsyncClient(base_url=self.caddy.url, verify=trust, timeout=60, **{"http2": True, **options})

    def beside(self, address: str = HTTPS_HOST) -> httpx.AsyncClient:
        """Return a client that connects to the gateway itself, from an address of this machine."""
        transport = httpx.AsyncHTTPTransport(local_address=address)
        return httpx.AsyncClient(base_url=f"http://{HTTPS_HOST}:{self.gateway_port}", transport=transport)


async def has_certificate(caddy: Caddy) -> bool:
    """Return whether a TLS connection succeeds, with or without a gateway behind Caddy."""
    try:
        trust = ssl.create_default_context(cafile=caddy.root)
        _, writer = await asyncio.open_connection("localhost", caddy.url.rpartition(":")[2], ssl=trust)
        writer.close()
        await writer.wait_closed()
    except OSError:
        return False
    return True


@pytest.fixture
def app() -> App:
    """Return the app that the server of the gateway runs."""
    return App()


@pytest.fixture
async def lone_front(tmp_path: Path) -> AsyncIterator[Front]:
    """Caddy without a gateway behind it."""
    gateway_port, https_port = free_ports(2)
    caddy = Caddy(tmp_path, https_port, f"{HTTPS_HOST}:{gateway_port}")
    async with ProcessGroup() as group:
        process = caddy.process(group, on_line=lambda _: None)
        await process.start()
        try:
            await wait_until(lambda: has_certificate(caddy), "Caddy has a certificate")
            yield Front(caddy, gateway_port)
        finally:
            process.terminate()
            await process.wait()


@pytest.fixture
async def front(lone_front: Front, app: App) -> AsyncIterator[Front]:
    """Caddy in front of the running server."""
    async with serving(app, lone_front.gateway_port):
        await wait_until(lone_front.caddy.serves, "Caddy serves")
        yield lone_front


async def test_it_serves_http_2_with_a_verifiable_certificate(front: Front) -> None:
    """A client needs only the certificate of the authority, from the data folder."""
    async with front.client() as client:
        answer = await client.get("/seen")

    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")


async def test_other_machines_cannot_reach_it(new_children: Callable[[], list[psutil.Process]], front: Front) -> None:
    """It listens on one port of the loopback address, without an admin endpoint."""
    port = int(front.caddy.url.rpartition(":")[2])
    (caddy,) = [child for child in new_children() if child.name() == "caddy"]
    listening = [(where.laddr.ip, where.laddr.port) for where in caddy.net_connections() if where.status == "LISTEN"]

    assert listening == [(HTTPS_HOST, port)]


async def test_the_app_sees_https_through_the_proxy_only(front: Front) -> None:
    """So the URLs in its responses have the right scheme."""
    async with front.client() as through, front.beside() as beside:
        schemes = [(await client.get("/seen")).json()["scheme"] for client in (through, beside)]

    assert schemes == ["https", "http"]


async def test_forged_headers_do_not_pass_the_proxy(front: Front) -> None:
    """Caddy replaces the headers of the client by the real values."""
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "Forwarded": "for=203.0.113.9;proto=http"}
    forged["X-Forwarded-Prefix"] = "/elsewhere"
    async with front.client(headers=forged) as client:
        seen = (await client.get("/seen")).json()

    assert seen == {"scheme": "https", "client": HTTPS_HOST, "prefix": ""}


FORGED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/elsewhere"}


async def test_forged_headers_from_elsewhere_are_ignored(front: Front) -> None:
    """Only the address of the proxy is trusted."""
    async with front.beside("127.0.0.2") as client:
        seen = (await client.get("/seen", headers=FORGED)).json()

    assert seen == {"scheme": "http", "client": "127.0.0.2", "prefix": ""}


async def test_without_a_proxy_no_forwarded_header_counts(app: App) -> None:
    """Not even from this machine, if `make run` started the gateway."""
    port = free_port()
    async with serving(app, port, trusted=""), httpx.AsyncClient() as client:
        seen = (await client.get(f"http://{HTTPS_HOST}:{port}/seen", headers=FORGED)).json()

    assert seen == {"scheme": "http", "client": HTTPS_HOST, "prefix": ""}


async def test_events_are_passed_on_at_once(front: Front, app: App) -> None:
    """The first event arrives while the app waits to send the last one."""
    async with front.client() as client, client.stream("GET", "/stream") as answer:
        lines = answer.aiter_lines()
        first = await anext(lines)
        waiting = not app.go.is_set()
        app.go.set()
        rest = [line async for line in lines]

    assert (first, waiting, rest) == ("data: first", True, ["", "data: last", ""])


async def test_twenty_streams_share_one_connection(front: Front, app: App) -> None:
    """All of them have begun before the first may end."""
    async with front.client() as client, AsyncExitStack() as streams:
        answers = [await streams.enter_async_context(client.stream("GET", "/stream")) for _ in range(STREAMS)]
        at_once = app.open
        app.go.set()
        bodies = [await answer.aread() for answer in answers]
        connections = {answer.extensions["network_stream"].get_extra_info("client_addr") for answer in answers}

    assert at_once == STREAMS
    assert bodies == [b"data: first\n\ndata: last\n\n"] * STREAMS
    assert len(connections) == 1


async def test_the_gateway_ends_the_stream_of_a_closed_page(front: Front, app: App) -> None:
    """Caddy passes the disconnect on."""
    async with front.client() as client, client.stream("GET", "/stream") as answer:
        await anext(answer.aiter_lines())
        assert app.open == 1

    await wait_until(lambda: app.open == 0, "the stream has ended at the gateway")


async def test_a_request_waits_for_a_gateway_that_starts(lone_front: Front, app: App) -> None:
    """A restart of the gateway causes no error."""
    async with lone_front.client() as client, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(client.get("/seen"), name="request")
        async with serving(app, lone_front.gateway_port):
            answer = await asking

    assert answer.status_code == 200


async def test_a_gateway_that_stays_away_is_a_sentence(lone_front: Front) -> None:
    """The reply has the format of all errors, and Retry-After."""
    async with lone_front.client() as client:
        answer = await client.get("/seen")

    assert (answer.status_code, answer.headers["Retry-After"]) == (502, "2")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "unavailable"


async def test_a_body_above_the_limit_is_refused(front: Front) -> None:
    """Caddy does not pass it on to the gateway."""
    async with front.client(http2=False) as client:  # the client's HTTP/2 takes a minute for so much
        fits = await client.post("/eat", content=bytes(LIMIT_BYTES))
        too_large = await client.post("/eat", content=bytes(LIMIT_BYTES + 1))

    assert fits.json() == {"bytes": LIMIT_BYTES}
    assert (too_large.status_code, too_large.json()["code"]) == (413, "too_large")


def test_a_public_name_gets_public_certificates(tmp_path: Path) -> None:
    """With such a SITE_ADDRESS the same file means port 443, redirects from port 80, and no local authority."""
    environment = {"SITE_ADDRESS": "studio.example.org", "CADDY_DATA": str(tmp_path)}
    adapt = [str(Path(sys.executable).parent / "caddy"), "adapt", "--config", str(ROOT / "deploy/Caddyfile")]
    adapted = json.loads(subprocess.run(adapt, env=environment, capture_output=True, check=True).stdout)

    (server,) = adapted["apps"]["http"]["servers"].values()
    assert server["listen"] == [":443"]
    assert "automatic_https" not in server
    assert "tls" not in adapted["apps"]


async def test_localhost_does_not_force_https(front: Front) -> None:
    """A browser would refuse plain HTTP on all other ports of localhost for a year."""
    async with front.client() as client:
        answer = await client.get("/seen")

    assert "Strict-Transport-Security" not in answer.headers


async def test_the_launcher_keeps_caddy_running(tmp_path: Path) -> None:
    """`--https` prints its address and certificate; a restarted Caddy keeps the same authority."""
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services", "--port", "0", "--https", "--https-port", "0", "--data", str(tmp_path),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert launcher.stdout is not None
        async with asyncio.timeout(READY_S):
            _, _, ready, certificate = [(await launcher.stdout.readline()).decode().rstrip() for _ in range(4)]
        trust = ssl.create_default_context(cafile=certificate.removeprefix("root certificate "))
        (caddy,) = [child for child in psutil.Process(launcher.pid).children() if child.name() == "caddy"]
        caddy.kill()
        caddy.wait()

        async def healthy() -> bool:
            try:
                async with httpx.AsyncClient(verify=trust, http2=True) as client:
                    answer = await client.get(f"{ready.removeprefix('ready ')}/api/system/health")
            except httpx.TransportError:
                return False
            return json.loads(answer.text)["status"] == "healthy"  # type: ignore[no-any-return]

        await wait_until(healthy, "Caddy is back")
    finally:
        launcher.terminate()
        await launcher.communicate()
