"""Which hosts and origins a gateway without keys accepts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from services.gateway.access.open_access import OpenAccessMiddleware
from services.gateway.settings import Settings

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

LOOPBACK_HOSTS = ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.9.8.7", "[::1]", "[::1]:8443", "localhost:"]
FOREIGN_HOSTS = [
    "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8080", "notlocalhost",
    "192.168.1.5:8080", "[fd00::1]:8080", "::1", "localhost:80:80", "user@localhost", "x", "*",
]  # fmt: skip
LOOPBACK_ORIGINS = ["http://localhost:3001", "http://127.0.0.1:3000", "https://localhost", "http://[::1]:3000"]
FOREIGN_ORIGINS = [
    "null", "", "https://evil.example", "http://localhost.evil.example", "http://localhost:3000.evil.example",
    "http://localhost@evil.example", "file://localhost", "localhost:3000", "http://localhost:3000/", "http://127.0.0.1x",
]  # fmt: skip


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    del receive
    owner = scope["principal"].owner.encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": owner})


async def respond(
    *headers: tuple[str, str], method: str = "POST", path: str = "/v1/jobs", **settings: Any
) -> tuple[int, bytes]:
    """Return the status and the body of a response with these settings of a gateway."""
    chosen = Settings(**settings)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "method": method, "path": path, "headers": raw}
    await OpenAccessMiddleware(_app, chosen.hosts, chosen.origins)(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize("host", LOOPBACK_HOSTS)
async def test_loopback_hosts_are_served(host: str) -> None:
    """On any port, as the one owner of an open gateway."""
    assert await respond(("Host", host)) == (200, b"local")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_other_hosts_are_refused(host: str, method: str) -> None:
    """Also for reading: a page could reach this machine by a host name of its own."""
    status, body = await respond(("Host", host), method=method)

    assert status == 421
    assert json.loads(body)["code"] == "misdirected_request"
    assert json.loads(body)["detail"].endswith("add it to GATEWAY_ALLOWED_HOSTS.")


async def test_a_host_is_required() -> None:
    """HTTP/1.0 allows a request without one."""
    status, body = await respond(path="/api/health")

    assert (status, json.loads(body)) == (400, {"detail": "The header Host is missing."})


@pytest.mark.parametrize(
    ("host", "configured"),
    [
        ("studio.example.org", "studio.example.org"),
        ("Studio.example.org:8443", "other.example, STUDIO.example.org"),
        ("192.168.1.5:8080", "192.168.1.5"),
        ("[fd00::1]:8080", "fd00::1"),
        ("[fd00::1]", "[fd00::1]"),
        ("anything.example", "*"),
    ],
)
async def test_configured_hosts_are_served(host: str, configured: str) -> None:
    """Host names are compared without case and port; their pages may write."""
    assert (await respond(("Host", host), allowed_hosts=configured))[0] == 200
    assert (await respond(("Host", host), ("Origin", f"https://{host.lower()}"), allowed_hosts=configured))[0] == 200


@pytest.mark.parametrize(("address", "host"), [("10.1.2.3", "10.1.2.3:8080"), ("fd00::1", "[fd00::1]:8080")])
async def test_the_address_of_the_gateway_is_served(address: str, host: str) -> None:
    """GATEWAY_HOST needs no second setting."""
    assert (await respond(("Host", host), host=address))[0] == 200


@pytest.mark.parametrize("wrong", ["http://a.example", "a.example:8080", "a.example/x", "a b", "[::1]:80"])
def test_a_host_that_cannot_match_is_refused(wrong: str) -> None:
    """A scheme, a path or a port is a mistake."""
    with pytest.raises(ValidationError):
        Settings(allowed_hosts=wrong)


@pytest.mark.parametrize("origin", [*LOOPBACK_ORIGINS, "https://studio.example.org"])
async def test_local_and_allowed_pages_may_write(origin: str) -> None:
    """Any loopback page may, on any port, besides those of the setting."""
    answer = await respond(("Host", "localhost"), ("Origin", origin), allowed_origins="https://studio.example.org/")

    assert answer[0] == 200


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
async def test_other_pages_may_not_write(origin: str, method: str) -> None:
    """The response is 403, with a sentence."""
    status, body = await respond(("Host", "localhost:8080"), ("Origin", origin), method=method)

    assert status == 403
    assert json.loads(body)["code"] == "forbidden"
    assert json.loads(body)["detail"].startswith("Pages of that origin may not change anything here.")


async def test_every_origin_counts() -> None:
    """A second header does not hide the first."""
    origins = ("Origin", "http://localhost:3000"), ("Origin", "https://evil.example")

    assert (await respond(("Host", "localhost"), *origins))[0] == 403


async def test_a_page_on_another_port_of_the_host_is_foreign() -> None:
    """Only loopback is trusted on all ports."""
    headers = ("Host", "studio.example.org"), ("Origin", "http://studio.example.org:9000")

    assert (await respond(*headers, allowed_hosts="studio.example.org"))[0] == 403


async def test_other_pages_may_read() -> None:
    """CORS keeps the response from them, and an image of a page has no Origin anyway."""
    assert (await respond(("Host", "localhost"), ("Origin", "https://evil.example"), method="GET"))[0] == 200


async def test_a_star_allows_any_page() -> None:
    """The setting has the same meaning as for CORS."""
    assert (await respond(("Host", "localhost"), ("Origin", "https://a.example"), allowed_origins="*"))[0] == 200
