"""The web client behind deploy/Caddyfile.web-client: it sends no key; users sign in, and Caddy adds their key."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from services.gateway.http.server import Server, listen
from services.gateway.settings import Settings
from shared.settings import NatsSettings
from tests.caddy import CADDY, caddy
from tests.gateway import HOST, edit
from tests.integration.keyed import keyed_gateway
from tests.ports import free_port
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request

    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.integration.keyed import House

PASSWORD = "not a good one"  # noqa: S105


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Provide a gateway that requires keys."""
    assert bus.is_connected
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path) as house:
        yield house


@asynccontextmanager
async def web_client() -> AsyncIterator[int]:
    """Provide a stand-in for the Next.js server that reports each request and whether it contained a secret."""

    async def say(request: Request) -> JSONResponse:
        return JSONResponse({"path": request.url.path, "authorization": request.headers.get("authorization")})

    settings = Settings(port=free_port())
    server = Server(Starlette(routes=[Route("/{path:path}", say)]), settings)
    with listen(settings) as socket:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([socket]), name="web-client")
            try:
                yield settings.port
            finally:
                server.stop()


@pytest.fixture
def hashed() -> str:
    """Return the password's hash in Caddy's form."""
    command = [str(CADDY), "hash-password", "--bcrypt-cost", "4", "--plaintext", PASSWORD]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def log() -> list[str]:
    """Return Caddy's log at its lowest level."""
    return []


@pytest.fixture
async def site(house: House, hashed: str, log: list[str], tmp_path: Path) -> AsyncIterator[str]:
    """Return the public address."""
    users = {"alice": "alice", "bob": "bob", "stranger": ""}  # somebody may sign in and have no key
    for name, owner in users.items():
        (tmp_path / f"{name}.key").write_text(house.keys.get(owner, ""))
    (tmp_path / "users").write_text("".join(f"{name} {hashed}\n" for name in users))
    (tmp_path / "owners").write_text("".join(f"{name} {{file.{tmp_path}/{name}.key}}\n" for name in ("alice", "bob")))
    files = {"USERS": str(tmp_path / "users"), "OWNERS": str(tmp_path / "owners")}
    async with web_client() as client_port:
        addresses = {"GATEWAY": f"{HOST}:{house.nobody.port}", "WEB_CLIENT": f"{HOST}:{client_port}"}
        async with caddy(
            "Caddyfile.web-client", tmp_path, log.append, CADDY_LOG_LEVEL="DEBUG", **files, **addresses
        ) as address:
            yield address


def browser(site: str, name: str = "") -> httpx.AsyncClient:
    """Provide a browser, signed in or not."""
    return httpx.AsyncClient(base_url=site, auth=(name, PASSWORD) if name else None, timeout=TIMEOUT_S)


async def test_who_has_signed_in_edits_as_their_owner(site: str, house: House) -> None:
    """The body of the deployed client works without a key; Bob does not find Alice's edit."""
    async with browser(site, "alice") as alice, browser(site, "bob") as bob:
        task = (await alice.post("/api/generate/async", json=edit())).json()["task_id"]
        seen = [(await client.get(f"/api/generate/status/{task}")).status_code for client in (alice, bob)]

    assert seen == [200, 404]
    assert (await house.alice.get(f"/api/generate/status/{task}")).status_code == 200


async def test_who_has_not_signed_in_gets_nothing(site: str) -> None:
    """A visitor without a password gets neither page nor API, only the short health that the client's server reads."""
    async with browser(site) as client:
        refused = [(await client.get(path)).status_code for path in ("/", "/api/debug/sessions", "/api/health")]
        health = (await client.get("/api/system/health")).json()

    assert refused == [401, 401, 401]
    assert health["services"]["segmentation"] == {"status": "unhealthy"}


async def test_a_user_without_a_key_gets_the_page_only(site: str) -> None:
    """The page opens, and the API refuses: this user has a password and no key of the gateway."""
    async with browser(site, "stranger") as client:
        answers = [await client.get(path) for path in ("/", "/api/debug/sessions")]

    assert [answer.status_code for answer in answers] == [200, 401]


async def test_the_client_is_told_no_secret(site: str) -> None:
    """The client's server gets the requests that are not for the gateway, without the password."""
    async with browser(site, "alice") as client:
        told = [(await client.get(path)).json() for path in ("/editor", "/api/server-status")]

    assert [answer["path"] for answer in told] == ["/editor", "/api/server-status"]
    assert [answer["authorization"] for answer in told] == [None, None]


async def test_no_log_has_a_key_a_password_or_a_signature_in_it(site: str, house: House, log: list[str]) -> None:
    """The log contains the secrets neither in plain nor in encoded form."""
    async with browser(site, "alice") as client:
        await client.get("/api/generate/stream/x?key=k1&signature=c2VjcmV0")

    def said() -> list[str]:
        return [line for line in log if "/api/generate/stream/x" in line]

    await wait_until(said, "Caddy has said something of it")
    travelling = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()

    assert all("signature=REDACTED" in line for line in said())
    assert not any(secret in line for line in log for secret in ("c2VjcmV0", house.keys["alice"][16:], travelling))


CANCEL = "/api/generate/async/cancel/"
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},  # another port is another site
    {"Origin": "SITE.evil.example"},
    {"Origin": "https://evil.example, SITE"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "SITE", "Sec-Fetch-Site": "cross-site"},
]
OWN = [{}, {"Origin": "SITE"}, {"Origin": "SITE", "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_pages_of_other_sites_change_nothing(site: str, house: House, headers: dict[str, str]) -> None:
    """Requests of a foreign page are refused though the browser adds the password: forms, cancels and JSON."""
    sent = {name: value.replace("SITE", site) for name, value in headers.items()}
    async with browser(site, "alice") as alice:
        task = (await alice.post("/api/generate/async", json=edit())).json()["task_id"]
        answers = [
            await alice.post(f"{CANCEL}{task}", headers=sent),
            await alice.post("/api/generate/async", json=edit(), headers=sent),
            await alice.post("/api/image-utils/white-balance", files={"file": b"x"}, headers=sent),
            await alice.delete("/api/anything", headers=sent),
        ]

    assert [answer.status_code for answer in answers] == [403] * 4
    assert {answer.json()["detail"] for answer in answers} == {"Pages of other sites may not change anything here."}
    assert (await house.alice.get(f"/api/generate/status/{task}")).json()["status"] == "queued"


@pytest.mark.parametrize("headers", OWN)
async def test_the_sites_own_page_and_programs_may(site: str, headers: dict[str, str]) -> None:
    """A request of a program without both headers passes."""
    sent = {name: value.replace("SITE", site) for name, value in headers.items()}
    async with browser(site, "alice") as alice:
        answer = await alice.post("/api/generate/async", json=edit(), headers=sent)

    assert answer.status_code == 200


async def test_reading_needs_no_check(site: str) -> None:
    """Reads pass from anywhere: a foreign page cannot read the answer, and images and links may be opened."""
    async with browser(site, "alice") as alice:
        answer = await alice.get("/api/debug/sessions", headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
