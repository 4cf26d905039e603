"""Removes the endpoints of removed or expired keys, and renews the keys that sign their result addresses."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from shared import webhook_subjects
from shared.errors import BrokerUnavailable, WrongLastSequence
from shared.reading import read_or_skip
from shared.topology import WEBHOOKS
from shared.webhook_messages import WebhookEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.access.authentication import Authenticator
    from services.gateway.webhooks.endpoints import Endpoints
    from shared.bus import Bus, StoredMessage

LOOK_EVERY_S = 10.0  # polling: neither the file of keys nor that of the signing secrets has events
GRACE_S = 600.0
"""Seconds before an endpoint with a key that was never known here is removed: another gateway's file may be newer."""
log = logging.getLogger(__name__)


class KeyWatch:
    """Keeps the endpoints equal to the files of keys and of signing secrets."""

    def __init__(
        self,
        bus: Bus,
        endpoints: Endpoints,
        authenticator: Authenticator | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the authenticator, None for an open gateway."""
        self._bus = bus
        self._endpoints = endpoints
        self._authenticator = authenticator
        self._clock = clock
        self._seen: set[str] = set()  # keys that were live here
        self._unknown_since: dict[str, float] = {}

    async def run(self) -> None:
        """Look every few seconds until cancelled."""
        await self._bus.wait_until_open()
        while True:
            try:
                await self.look()
            except BrokerUnavailable:
                await self._bus.up.wait()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Compare all endpoints once. Raises BrokerUnavailable."""
        stored = await self._bus.history(WEBHOOKS, webhook_subjects.ALL_ENDPOINTS)
        for each in stored:
            endpoint = read_or_skip(WebhookEndpoint, each)
            if endpoint is None:
                continue
            if self._is_gone(endpoint):
                log.info("webhook.removed", extra={"endpoint": endpoint.id, "owner": endpoint.owner})
                await self._endpoints.remove(endpoint.owner, endpoint.id)
            else:
                await self._renew(endpoint, each)

    def _is_gone(self, endpoint: WebhookEndpoint) -> bool:
        """Return whether the key of an endpoint was removed or has expired."""
        key_id = endpoint.key_id
        if self._authenticator is None:
            return False  # the gateway may be open only for a while, and no other client reads the endpoints
        principal = self._authenticator.keys.find_by_id(key_id) if key_id else None
        if principal is not None and principal.owner == endpoint.owner:
            self._seen.add(key_id)
            self._unknown_since.pop(key_id, None)
            return False
        since = self._unknown_since.setdefault(key_id, self._clock())
        return key_id in self._seen or self._clock() - since >= GRACE_S

    async def _renew(self, endpoint: WebhookEndpoint, stored: StoredMessage) -> None:
        """Store the key of the present signing secret: addresses signed with a removed one do not open."""
        if self._authenticator is None or not endpoint.key_id or endpoint.key_id not in self._seen:
            return
        signer = self._authenticator.signer
        current = {
            "address_key": signer.address_key(endpoint.owner, endpoint.key_id, endpoint.id),
            "address_s": signer.lifetime_s,
        }
        renewed = endpoint.model_copy(update=current)
        if renewed != endpoint:
            try:
                await self._bus.publish(stored.subject, renewed, expect_last=stored.seq)
            except WrongLastSequence:
                return  # deleted meanwhile, or another gateway was first
