"""A gateway that requires keys, and a client for each key."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.gateway import keys
from services.gateway.access.principal import KeyScope
from services.imageutils.service import NAME, run
from services.imageutils.settings import Settings as ImageSettings
from shared.settings import NatsSettings
from tests.gateway import Client, gateway
from tests.v1_client import beside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.settings import StreamSettings

READ, WRITE, ADMIN = KeyScope.READ, KeyScope.WRITE, KeyScope.ADMIN


@dataclass(frozen=True)
class House:
    """The gateway's keys, and a client for each; `nobody` has no key."""

    file: Path
    keys: dict[str, str]
    nobody: Client
    alice: Client
    bob: Client
    viewer: Client  # Alice's second key, which may only read
    operator: Client  # may only read the system's health


@asynccontextmanager
async def keyed_gateway(
    nats: NatsSettings, streams: StreamSettings, folder: Path, **settings: Any
) -> AsyncIterator[House]:
    """Run a gateway with four keys in this event loop."""
    file, secret = folder / "keys.json", folder / "signing-key"
    made = {
        "alice": keys.new(file, "alice", frozenset({READ, WRITE}), None),
        "bob": keys.new(file, "bob", frozenset({READ, WRITE}), None),
        "viewer": keys.new(file, "alice", frozenset({READ}), None),
        "operator": keys.new(file, "operator", frozenset({ADMIN}), None),
    }
    keys.main(["signing-key", str(secret)])
    chosen = {
        "keys_file": file,
        "signing_key_file": secret,
        "key_rate_per_s": 1e6,
        "key_burst": 10**6,
        "refusal_burst": 10**6,
        **settings,
    }
    async with gateway(nats, streams, **chosen) as nobody, AsyncExitStack() as clients:
        people = {name: await clients.enter_async_context(Client(nobody.port, key)) for name, key in made.items()}
        yield House(file, made, nobody, **people)


@asynccontextmanager
async def keyed_images(
    bus: Bus, nats_url: str, streams: StreamSettings, folder: Path, **settings: Any
) -> AsyncIterator[House]:
    """Run the image utilities and a gateway with four keys in this event loop."""
    nats = NatsSettings(url=nats_url)
    async with (
        beside(bus, NAME, run, ImageSettings(nats=nats, streams=streams)),
        keyed_gateway(nats, streams, folder, **settings) as house,
    ):
        yield house
