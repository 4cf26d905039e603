"""The endpoints of webhooks: their URLs, their number, their owners, and their end with the key that made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.gateway import keys
from services.gateway.access.authentication import create_authenticator
from services.gateway.access.principal import Principal
from services.gateway.settings import Settings as GatewaySettings
from services.gateway.webhooks.endpoints import Endpoints
from services.gateway.webhooks.key_watch import GRACE_S, KeyWatch
from shared import webhook_subjects
from shared.settings import NatsSettings
from shared.topology import WEBHOOKS
from shared.webhook_messages import WebhookEndpoint, WebhookEvent
from tests.integration.keyed import keyed_gateway
from tests.receiver import LOOPBACK, make

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.integration.keyed import House


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Provide a gateway with keys that allows endpoints on this machine."""
    assert bus.is_connected
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path, webhooks=LOOPBACK) as house:
        yield house


async def test_the_urls_of_endpoints_are_checked(house: House, client: Client) -> None:
    """Where loopback is allowed, its port counts; elsewhere the default refuses it, and http."""
    refused = {
        "ftp://example.com/": "https://",
        "https://user:word@example.com/": "user",
        "https://example.com:22/": "port",
        "https://[::ffff:10.0.0.1]/": "not public",
        "https://169.254.169.254/latest": "not public",
        "https://exa mple.com/": "spaces",
        "https:///path": "host",
        "https://example.com:99999/": "not a URL",
        "https://example.com/#part": "fragment",
    }
    for url, word in refused.items():
        answer = await house.alice.post("/v1/webhooks", json={"url": url})
        assert (answer.status_code, word in answer.json()["detail"]) == (422, True), (url, answer.text)
    for url in ("https://127.0.0.1:8443/", "http://example.com/"):
        assert (await client.post("/v1/webhooks", json={"url": url})).status_code == 422
    assert (await client.post("/v1/webhooks", json={"url": "https://example.com/"})).status_code == 201


async def test_a_key_has_at_most_twenty_endpoints(house: House) -> None:
    """The owner's other key may list them; another owner finds none of them."""
    made = [await make(house.alice, f"https://example.com/{number}") for number in range(20)]
    one_more = await house.alice.post("/v1/webhooks", json={"url": "https://example.com/"})

    assert one_more.status_code == 429
    listed = (await house.viewer.get("/v1/webhooks")).json()["webhooks"]
    assert [each["id"] for each in listed] == [each["id"] for each in made]
    assert all("secret" not in each for each in listed)
    for path in (f"/v1/webhooks/{made[0]['id']}", f"/v1/webhooks/{made[0]['id']}/attempts"):
        assert (await house.bob.get(path)).status_code == 404
    assert (await house.bob.delete(f"/v1/webhooks/{made[0]['id']}")).status_code == 404
    assert (await house.viewer.delete(f"/v1/webhooks/{made[0]['id']}")).status_code == 403
    assert (await house.alice.delete(f"/v1/webhooks/{made[0]['id']}")).status_code == 204
    assert (await house.alice.get(f"/v1/webhooks/{made[0]['id']}")).status_code == 404
    assert (await house.bob.post("/v1/webhooks", json={"url": "https://example.com/"})).status_code == 201


async def test_an_endpoint_ends_with_its_key(house: House, bus: Bus, tmp_path: Path) -> None:
    """A key that was live here and is gone was revoked. One that was never known may be newer than the file."""
    authenticator = create_authenticator(
        GatewaySettings(access="keys", keys_file=house.file, signing_key_file=tmp_path / "signing-key")
    )
    assert authenticator is not None
    now = 0.0
    endpoints = Endpoints(bus, LOOPBACK, authenticator.signer)
    watch = KeyWatch(bus, endpoints, authenticator, lambda: now)
    made = await make(house.alice, "https://example.com/")
    stranger = Principal("carol", "0123456789ab", frozenset())
    await endpoints.create(stranger, "https://example.com/", list(WebhookEvent), "http://here")

    async def left() -> list[str]:
        stored = await bus.history(WEBHOOKS, webhook_subjects.ALL_ENDPOINTS)
        return sorted(each.subject.split(".")[2] for each in stored)

    await watch.look()
    assert await left() == ["alice", "carol"]
    keys.revoke(house.file, made["key_id"])
    await authenticator.keys.refresh()
    await watch.look()
    assert await left() == ["carol"]
    now = GRACE_S
    await watch.look()
    assert await left() == []


async def test_result_addresses_follow_a_new_signing_secret(house: House, bus: Bus, tmp_path: Path) -> None:
    """Otherwise those of older endpoints would no longer open once the old secret is removed."""
    made = await make(house.alice, "https://example.com/")
    key = webhook_subjects.endpoint("alice", made["id"])

    async def address_key() -> str | None:
        stored = await bus.last(WEBHOOKS, key)
        assert stored is not None
        return WebhookEndpoint.model_validate_json(stored.data).address_key

    before = await address_key()
    (tmp_path / "signing-key").write_text("n" * 43 + "\n")
    authenticator = create_authenticator(
        GatewaySettings(access="keys", keys_file=house.file, signing_key_file=tmp_path / "signing-key")
    )
    assert authenticator is not None
    await KeyWatch(bus, Endpoints(bus, LOOPBACK, authenticator.signer), authenticator).look()

    assert await address_key() == authenticator.signer.address_key("alice", made["key_id"], made["id"]) != before
