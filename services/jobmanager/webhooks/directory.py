"""The endpoints of owners, kept for a few seconds and forgotten when one of them changes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import TTLCache

from shared import webhook_subjects
from shared.reading import read_or_skip
from shared.topology import WEBHOOKS
from shared.webhook_messages import WebhookEndpoint, WebhookState

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage

_KEPT_S = 5.0  # an operator may purge the bucket, and a purge sends no live copies
_OWNERS = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint with its state."""

    endpoint: WebhookEndpoint
    seq: int
    """Of the endpoint: if it changes, the endpoint was deleted or stored again."""
    state: WebhookState


class Directory:
    """Reads the endpoints of an owner once for many deliveries."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: TTLCache[str, dict[str, Target]] = TTLCache(_OWNERS, _KEPT_S)
        self._lock = asyncio.Lock()  # many deliveries of one owner come together
        self._changes = 0

    async def endpoints_of(self, owner: str) -> dict[str, Target]:
        """Return the endpoints of an owner by id. Raises BrokerUnavailable."""
        async with self._lock:
            if (known := self._known.get(owner)) is not None:
                return known
            changes = self._changes
            found = await self._read(owner)
            if changes == self._changes:
                self._known[owner] = found
            return found

    def note_change(self, stored: StoredMessage) -> None:
        """Forget the endpoints of the owner in the subject of a live copy."""
        self._changes += 1
        self._known.pop(stored.subject.rsplit(".", 3)[-3], None)

    def clear(self) -> None:
        """Forget all endpoints, because live copies were missed."""
        self._changes += 1
        self._known.clear()

    async def _read(self, owner: str) -> dict[str, Target]:
        stored = {each.subject: each for each in await self._bus.history(WEBHOOKS, webhook_subjects.webhooks_of(owner))}
        found: dict[str, Target] = {}
        for subject, each in stored.items():
            if ".endpoint." in subject and (endpoint := read_or_skip(WebhookEndpoint, each)) is not None:
                state = read_or_skip(WebhookState, stored.get(webhook_subjects.state(owner, endpoint.id)))
                found[endpoint.id] = Target(endpoint, each.seq, state or WebhookState())
        return found
