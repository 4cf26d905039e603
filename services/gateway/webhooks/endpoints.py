"""The endpoints of webhooks in the broker: make, list, test, delete, and read their attempts. The job manager sends."""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared import webhook_subjects
from shared.errors import Busy, NotFound, WrongLastSequence
from shared.reading import read_or_skip
from shared.topology import JOB_EV, WEBHOOK_LOG, WEBHOOK_Q, WEBHOOKS
from shared.webhook_messages import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookState
from shared.webhooks import check_url, webhook_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.access.principal import Principal
    from shared.bus import Bus
    from shared.settings import WebhookSettings
    from shared.webhook_messages import WebhookEvent

MOST_ENDPOINTS = 20
_SECRET_BYTES, _ID_BYTES = 32, 9
_UNKNOWN = "There is no webhook endpoint with this id."


class AddressSigner(Protocol):
    """Derives the keys that sign result addresses."""

    @property
    def lifetime_s(self) -> float:
        """The seconds that an address is valid."""

    def address_key(self, owner: str, key_id: str, endpoint_id: str) -> str:
        """Return the key of one endpoint."""


@dataclass(frozen=True, slots=True)
class KnownEndpoint:
    """An endpoint and whether its calls fail."""

    endpoint: WebhookEndpoint
    state: WebhookState


class Endpoints:
    """The endpoints of all owners. All async methods raise BrokerUnavailable."""

    def __init__(self, bus: Bus, settings: WebhookSettings, signer: AddressSigner | None) -> None:
        """`signer` is None on a gateway without keys: its result addresses need no signature."""
        self._bus = bus
        self._settings = settings
        self._signer = signer

    async def create(
        self, principal: Principal, url: str, events: Sequence[WebhookEvent], base_url: str
    ) -> WebhookEndpoint:
        """Store a new endpoint with new secrets. Raises BadInput for its URL, Busy if the key has 20."""
        check_url(url, allow_http=self._settings.allow_http, allowed=self._settings.networks)
        owner, key_id = principal.owner, principal.key_id
        endpoint_id = f"wh_{secrets.token_hex(_ID_BYTES)}"
        endpoint = WebhookEndpoint(
            id=endpoint_id,
            owner=owner,
            key_id=key_id,
            url=url,
            events=sorted(set(events)),
            secret=f"whsec_{_random()}",
            signing_seed=f"whsk_{_random()}",
            base_url=base_url,
            address_key=None if self._signer is None else self._signer.address_key(owner, key_id, endpoint_id),
            address_s=300.0 if self._signer is None else self._signer.lifetime_s,
            after_seq=await self._bus.last_sequence(JOB_EV),
            created_at=time.time(),
        )
        while True:
            stored = await self._bus.history(WEBHOOKS, webhook_subjects.endpoints_of(owner))
            present = [found for each in stored if (found := read_or_skip(WebhookEndpoint, each)) is not None]
            if sum(each.key_id == key_id for each in present) >= MOST_ENDPOINTS:
                raise Busy(f"A key has at most {MOST_ENDPOINTS} webhook endpoints; delete one.")
            newest = max((each.seq for each in stored), default=0)
            try:
                await self._bus.publish(
                    webhook_subjects.endpoint(owner, endpoint_id),
                    endpoint,
                    expect_last=newest,
                    expect_on=webhook_subjects.endpoints_of(owner),  # two requests at once must not make 21
                )
            except WrongLastSequence:
                continue
            return endpoint

    async def list_of(self, owner: str) -> list[KnownEndpoint]:
        """Return the endpoints of all keys of an owner, the oldest first."""
        stored = await self._bus.history(WEBHOOKS, webhook_subjects.webhooks_of(owner))
        states = {each.subject: read_or_skip(WebhookState, each) for each in stored if ".state." in each.subject}
        found = [read_or_skip(WebhookEndpoint, each) for each in stored if ".endpoint." in each.subject]
        known = [
            KnownEndpoint(each, states.get(webhook_subjects.state(owner, each.id)) or WebhookState())
            for each in found
            if each is not None
        ]
        return sorted(known, key=lambda each: (each.endpoint.created_at, each.endpoint.id))

    async def find(self, owner: str, endpoint_id: str) -> KnownEndpoint:
        """Return an endpoint of this owner. Raises NotFound, BadMessage for an impossible id."""
        endpoint = read_or_skip(
            WebhookEndpoint, await self._bus.last(WEBHOOKS, webhook_subjects.endpoint(owner, endpoint_id))
        )
        if endpoint is None:
            raise NotFound(_UNKNOWN)
        stored = await self._bus.last(WEBHOOKS, webhook_subjects.state(owner, endpoint_id))
        return KnownEndpoint(endpoint, read_or_skip(WebhookState, stored) or WebhookState())

    async def delete(self, owner: str, endpoint_id: str) -> None:
        """Delete an endpoint with its deliveries and its log. Raises NotFound."""
        await self.find(owner, endpoint_id)
        await self.remove(owner, endpoint_id)

    async def remove(self, owner: str, endpoint_id: str) -> None:
        """Delete an endpoint and its traces. The sender receives a copy of the empty entry, but none of a purge."""
        await self._bus.publish(webhook_subjects.endpoint(owner, endpoint_id), b"")
        await self._bus.purge(WEBHOOKS, webhook_subjects.endpoint(owner, endpoint_id))
        await self._bus.purge(WEBHOOKS, webhook_subjects.state(owner, endpoint_id))
        await self._bus.purge(WEBHOOK_Q, webhook_subjects.deliveries_to(owner, endpoint_id))
        await self._bus.purge(WEBHOOK_LOG, webhook_subjects.attempts_at(owner, endpoint_id))

    async def send_test(self, owner: str, endpoint_id: str) -> str:
        """Store a test delivery and return its webhook-id. Raises NotFound, StreamFull."""
        await self.find(owner, endpoint_id)
        return await self._send(owner, endpoint_id, "test", secrets.token_hex(_ID_BYTES))

    async def send_again(self, owner: str, endpoint_id: str, job_id: str) -> str:
        """Store a delivery of the end of a job again and return its webhook-id, which is the same each time.

        The caller checks that the job is the owner's and has ended. Raises NotFound, StreamFull.
        """
        await self.find(owner, endpoint_id)
        return await self._send(owner, endpoint_id, "end", job_id)

    async def _send(self, owner: str, endpoint_id: str, kind: webhook_subjects.Kind, name: str) -> str:
        await self._bus.publish(webhook_subjects.delivery(owner, endpoint_id, kind, name), WebhookDelivery())
        return webhook_id(endpoint_id, kind, name)

    async def attempts(self, owner: str, endpoint_id: str) -> list[WebhookAttempt]:
        """Return the last attempts at an endpoint, the newest first. Raises NotFound."""
        await self.find(owner, endpoint_id)
        stored = await self._bus.history(WEBHOOK_LOG, webhook_subjects.attempts_at(owner, endpoint_id))
        found = [read_or_skip(WebhookAttempt, each) for each in reversed(stored)]
        return [each for each in found if each is not None]


def public_key_of(endpoint: WebhookEndpoint) -> str:
    """Return the public key of the signatures v1a, as the specification writes it."""
    from nacl.signing import SigningKey  # noqa: PLC0415 (most gateways never need it)

    seed = base64.b64decode(endpoint.signing_seed.removeprefix("whsk_"))
    return "whpk_" + base64.b64encode(bytes(SigningKey(seed).verify_key)).decode()


def _random() -> str:
    return base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
