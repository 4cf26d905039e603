"""A gateway that requires keys, and a client for each key."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.gateway import keys
from services.gateway.access.principal import KeyScope
from tests.gateway import Client, gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.settings import NatsSettings, StreamSettings

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
