"""A gateway below a sub-path of a proxy that removes it: each address in an answer works as it stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from services.cli.async_client import AsyncClient
from shared.settings import NatsSettings
from tests.gateway import HOST, SAMPLES
from tests.integration.keyed import keyed_gateway
from tests.sub_path import PREFIX, sub_path
from tests.waiting import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.integration.keyed import House

HOOK = "https://example.com/hooks"


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Provide a gateway that requires keys and trusts the proxy."""
    assert bus.is_connected
    settings = {"trusted_proxies": HOST, "result_wait_s": 0.3}
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path, **settings) as house:
        yield house


@pytest.fixture
async def site(house: House, tmp_path: Path) -> AsyncIterator[str]:
    """Return the proxy's address."""
    async with sub_path(tmp_path, f"{HOST}:{house.nobody.port}") as address:
        yield address


def person(site: str, key: str = "") -> httpx.AsyncClient:
    """Return a client of the site's host, with a key or without."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=site, headers=headers, timeout=TIMEOUT_S)


async def test_every_address_works_as_it_stands(site: str, house: House) -> None:
    """Location headers, links, signed URLs, samples, and the base of a webhook's addresses."""
    async with person(site, house.keys["alice"]) as alice, person(site) as nobody:
        stored = await alice.post(f"{PREFIX}/v1/images", content=(SAMPLES / "cat.jpg").read_bytes())
        image = stored.headers["Location"]
        edit = {"task": "white-balance", "image": stored.json()["sha256"]}
        accepted = await alice.post(f"{PREFIX}/v1/jobs", json=edit)
        links: dict[str, str] = accepted.json()["links"]
        hook = await alice.post(f"{PREFIX}/v1/webhooks", json={"url": HOOK, "events": ["job.done"]})
        samples: list[dict[str, Any]] = (await nobody.get(f"{PREFIX}/v1/samples")).json()
        signed = [
            (await alice.post(f"{PREFIX}/v1/signed-urls", json={"path": path})).json()["url"]
            for path in (image, image.removeprefix(PREFIX))
        ]
        with_key = [image, accepted.headers["Location"], links["self"], hook.headers["Location"]]
        found = {path: (await alice.get(path)).status_code for path in with_key}
        found |= {path: (await nobody.get(path)).status_code for path in (*signed, samples[0]["url"])}
        async with nobody.stream("GET", links["events"]) as events:
            first = await anext(events.aiter_lines())
        waited = await nobody.get(links["result"])

    assert all(path.startswith(f"{PREFIX}/") for path in (*found, *links.values()))
    assert set(found.values()) == {200}
    assert (events.status_code, bool(first)) == (200, True)
    assert waited.status_code == 409  # nothing runs it yet


async def test_the_sdk_takes_an_address_with_a_path(site: str, house: House) -> None:
    """With the sub-path and with /v1 behind it, as OpenAI's clients have it."""
    photo = (SAMPLES / "cat.jpg").read_bytes()
    found = []
    for url in (f"{site}{PREFIX}", f"{site}{PREFIX}/v1/"):
        async with AsyncClient(url, house.keys["alice"]) as client:
            found.append(await client.download(await client.upload(photo)) == photo)

    assert found == [True, True]


async def test_the_pages_have_no_address_outside(site: str) -> None:
    """Each file that a page names is there below the sub-path, and the page without the last slash is found."""
    async with person(site) as nobody:
        missing = []
        for page in (f"{PREFIX}/", f"{PREFIX}/v1/docs"):
            base = httpx.URL(site + page)
            text = (await nobody.get(page)).text
            named = set(re.findall(r'(?:href|src)="([^"#]+)"', text))
            urls = {base.join(name) for name in named}
            missing += [str(url) for url in urls if not url.path.startswith(f"{PREFIX}/")]
            missing += [str(url) for url in urls if (await nobody.get(url)).status_code != 200]
            assert len(named) > 3
        without_slash = await nobody.get(PREFIX)
        described = (await nobody.get(f"{PREFIX}/v1/openapi.json")).json()

    assert missing == []
    assert (without_slash.status_code, without_slash.headers["Location"]) == (302, f"{PREFIX}/")
    assert described["servers"][0]["url"] == PREFIX


async def test_at_the_root_nothing_has_changed(house: House) -> None:
    """A direct call of the gateway gets the same paths as ever, also with a forged header beside a trusted address."""
    forged = {"X-Forwarded-Prefix": "//evil.example"}
    stored = await house.alice.post("/v1/images", content=(SAMPLES / "cat.jpg").read_bytes(), headers=forged)
    sha256 = stored.json()["sha256"]
    accepted = await house.alice.post("/v1/jobs", json={"task": "white-balance", "image": sha256})
    job = accepted.json()

    assert stored.headers["Location"] == f"/v1/images/{sha256}"
    assert job["links"]["self"] == accepted.headers["Location"] == f"/v1/jobs/{job['id']}"
