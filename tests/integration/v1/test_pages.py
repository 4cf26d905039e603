"""The studio page, the documentation page and their files."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import pytest

from services.gateway.http.static_files import FOLDER
from services.gateway.v1.routes.docs import SNAPSHOT

if TYPE_CHECKING:
    from tests.gateway import Client

PAGES = ["/", "/v1/docs"]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_runs_nothing_but_our_files(client: Client, path: str) -> None:
    """The page's policy forbids other scripts, and the page sends no referrer."""
    answer = await client.get(path)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert "camera=()" in answer.headers["permissions-policy"]


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_keeps_its_own_policy(client: Client, path: str) -> None:
    """No inline code and no foreign files; each file that the page names exists."""
    html = (await client.get(path)).text
    named = re.findall(r'(?:src|href)="([^"#][^"]*)"', html)

    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    assert named
    assert not any("//" in url for url in named)
    assert {(await client.get(urljoin(path, url))).status_code for url in named} == {200}


@pytest.mark.parametrize("path", ["/", "/static/js/main.js", "/v1/docs/assets/swagger-ui.css"])
async def test_text_is_compressed_and_asked_for_again(client: Client, path: str) -> None:
    """A browser revalidates each file, because the files of a page belong together."""
    async with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    again = await client.get(path, headers={"If-None-Match": plain.headers["etag"]})

    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert "content-encoding" not in plain.headers
    assert plain.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/static/samples/cat.jpg", "/static/fonts/inter-latin.woff2"])
async def test_pictures_and_fonts_are_sent_as_they_are_and_kept(client: Client, path: str) -> None:
    """They are compressed already and do not change."""
    answer = await client.get(path, headers={"Accept-Encoding": "gzip"})

    assert "content-encoding" not in answer.headers
    assert "max-age=604800" in answer.headers["cache-control"]
    assert answer.content == (FOLDER.parent / path.lstrip("/")).read_bytes()


@pytest.mark.parametrize(
    "path", ["/static/nope.js", "/static/../settings.py", "/static/%2e%2e/settings.py", "/static/", "/static/js"]
)
async def test_only_the_pages_files_are_served(client: Client, path: str) -> None:
    """No file outside the folder is served."""
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("path", [*PAGES, "/static/js/main.js"])
async def test_pages_can_only_be_read(client: Client, path: str) -> None:
    """Other methods are refused."""
    assert (await client.post(path)).status_code == 405


async def test_the_description_is_served_as_it_is_written_down(client: Client) -> None:
    """The served document equals the snapshot in docs/."""
    answer = await client.get("/v1/openapi.json")

    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == json.loads(SNAPSHOT.read_bytes())


async def test_the_list_of_the_shell_has_the_hash_of_each_file(client: Client) -> None:
    """A browser that keeps the files checks each by its hash. Samples, answers of the API and keys are not listed."""
    listed = (await client.get("/static/shell.json")).json()
    served = {path: (await client.get(path)).content for path in listed}

    assert {"/", "/static/js/main.js", "/static/css/layout.css", "/static/fonts/inter-latin.woff2"} <= listed.keys()
    assert all(path == "/" or path.startswith("/static/") for path in listed)
    assert not any("/samples/" in path for path in listed)
    assert {path: hashlib.sha256(content).hexdigest() for path, content in served.items()} == listed


async def test_samples_lead_to_photos(client: Client) -> None:
    """The page offers the sample photos."""
    samples = (await client.get("/v1/samples")).json()

    assert len(samples) >= 4
    assert {(await client.get(sample["url"])).headers["content-type"] for sample in samples} == {"image/jpeg"}


async def test_health_names_every_service(client: Client) -> None:
    """Also services that are not running."""
    health = (await client.get("/v1/health")).json()

    assert health["status"] == "degraded"
    assert health["services"].keys() == {"generation", "segmentation", "image_utils", "job_manager"}
    assert health["services"]["generation"]["status"] == "unhealthy"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("PUT", "/v1/jobs", 405)])
async def test_what_there_is_not_is_refused_as_problem_details(
    client: Client, method: str, path: str, status: int
) -> None:
    """Like each error of /v1."""
    answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/jobs", "GET, POST"),
        ("/v1/jobs/x", "DELETE, GET"),
        ("/v1/images/x", "DELETE, GET, HEAD"),
        ("/v1/jobs/x/result", "GET, HEAD"),
        ("/v1/openapi.json", "GET"),
        ("/", "GET, HEAD"),
        ("/static/js/main.js", "GET, HEAD"),
    ],
)
async def test_an_address_names_all_its_methods(client: Client, path: str, methods: str) -> None:
    """The response to OPTIONS and a 405 response both name them."""
    asked = await client.options(path)
    refused = await client.put(path)

    assert (asked.status_code, asked.headers["allow"]) == (200, methods)
    assert (refused.status_code, refused.headers["allow"]) == (405, methods)
