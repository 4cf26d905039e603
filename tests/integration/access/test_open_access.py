"""An open gateway on loopback against web pages: foreign origins, foreign host names and bodies without preflight."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from shared.topology import JOB_LOG
from tests.gateway import HOST, edit, png
from tests.v1_client import removal, upload

if TYPE_CHECKING:
    import httpx

    from shared.bus import Bus
    from tests.gateway import Client

EVIL = "https://evil.example"
FORM = {"files": {"file": ("x.png", png(), "image/png")}}
WRITES: dict[str, tuple[str, dict[str, Any]]] = {
    "text order": ("/api/generate/async", {"content": json.dumps(edit()), "headers": {"Content-Type": "text/plain"}}),
    "order": ("/api/generate/async", {"json": edit()}),
    "form upload": ("/v1/images", FORM),
    "untyped upload": ("/v1/images", {"content": png()}),
    "form white balance": ("/api/image-utils/white-balance", FORM),
    "cancel": ("/api/generate/async/cancel/j1", {}),
    "debug clean-up": ("/api/debug/cleanup?keep_last_n=0", {}),
}


async def post(client: Client, path: str, options: dict[str, Any], **headers: str) -> httpx.Response:
    """Post with more headers."""
    return await client.post(path, **{**options, "headers": options.get("headers", {}) | headers})


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost.evil.example"])
@pytest.mark.parametrize("what", WRITES)
async def test_a_foreign_page_changes_nothing(client: Client, bus: Bus, what: str, origin: str) -> None:
    """Each write that a browser sends without a preflight is refused in a sentence, and nothing is stored."""
    path, options = WRITES[what]
    answer = await post(client, path, options, Origin=origin)

    assert answer.status_code == 403
    assert answer.json()["detail"].startswith("Pages of that origin may not change anything here.")
    assert "access-control-allow-origin" not in answer.headers
    assert await bus.subjects_in(JOB_LOG, ">") == []
    assert await bus.subjects_in("OBJ_inputs", ">") == []


@pytest.mark.parametrize("path", ["/", "/v1/jobs", "/v1/images/" + "0" * 64, "/api/health", "/v1/openapi.json"])
async def test_a_name_that_was_rebound_reads_nothing(client: Client, path: str) -> None:
    """Any address answers 421: the page's requests have no Origin, or its own."""
    answer = await client.get(path, headers={"Host": f"evil.example:{client.port}", "Origin": "http://evil.example"})

    assert answer.status_code == 421
    assert answer.json()["detail"].startswith("This gateway does not serve that host name.")


async def test_a_request_without_a_host_is_refused(client: Client) -> None:
    """HTTP/1.0 allows it."""
    reader, writer = await asyncio.open_connection(HOST, client.port)
    writer.write(b"GET /api/health HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(10):
        said = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"The header Host is missing." in said


@pytest.mark.parametrize("origin", ["http://127.0.0.1:3000", "http://localhost:3001", "http://[::1]:5173"])
async def test_any_local_page_may_use_it(client: Client, origin: str) -> None:
    """With a preflight, and with CORS headers on the response."""
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = await client.options("/api/generate/async", headers={"Origin": origin, **asks})
    answer = await client.post("/api/generate/async", json=edit(), headers={"Origin": origin})

    assert (preflight.status_code, answer.status_code) == (200, 200)
    assert preflight.headers["access-control-allow-origin"] == answer.headers["access-control-allow-origin"] == origin


async def test_a_client_without_an_origin_may_use_it(client: Client) -> None:
    """Such as curl and the deployed client's own server."""
    del client.headers["Origin"]

    assert (await client.post("/v1/jobs", json=await removal(client))).status_code == 202
    assert (await client.get("/api/system/health")).status_code == 200


@pytest.mark.parametrize("kind", [None, "text/plain", "text/json; application/json"])
@pytest.mark.parametrize(
    "path", ["/api/generate/async", "/api/smart-mask", "/v1/jobs", "/v1/masks", "/v1/signed-urls", "/api/debug/cleanup"]
)
async def test_json_is_accepted_as_json_only(client: Client, path: str, kind: str | None) -> None:
    """A page can send the other types without a preflight."""
    answer = await client.post(path, content=b"{}", headers={"Content-Type": kind} if kind else {})

    assert answer.status_code == 415
    assert answer.json()["detail"] == "Send the body with the content type application/json."


async def test_the_content_type_may_have_parameters(client: Client) -> None:
    """Media types have no case."""
    body = json.dumps({"path": f"/v1/images/{await upload(client, png())}"})
    answer = await client.post(
        "/v1/signed-urls", content=body, headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )

    assert answer.status_code == 201
