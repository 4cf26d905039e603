"""The messages of webhooks, as those of `messages.py`: endpoints, and deliveries to them."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from shared.messages import Count, Message, Timestamp, Token


class WebhookEvent(StrEnum):
    """An event that an endpoint can be sent."""

    JOB_DONE = "job.done"
    """The job ended with a result."""
    JOB_FAILED = "job.failed"
    """The job ended without a result, because of an error."""
    JOB_CANCELLED = "job.cancelled"
    """The job was cancelled."""


class WebhookEndpoint(Message):
    """An endpoint of webhooks with its secrets (bucket `webhooks`, which only the gateway and the sender may read)."""

    id: Token
    owner: Token
    key_id: str  # the API key that made it, and with which it ends; empty on an open gateway
    url: Annotated[str, Field(max_length=2048)]
    events: list[WebhookEvent]
    secret: str  # whsec_ and base64: signs with HMAC-SHA256
    signing_seed: str  # whsk_ and base64: signs with Ed25519
    base_url: str  # of the gateway, as its client reached it
    address_key: str | None = None  # signs result addresses; None: the gateway needs no keys
    address_s: float = Field(default=300.0, gt=0)  # how long such an address is valid
    after_seq: Count  # in JOB_EV: older events are not sent
    created_at: Timestamp


class WebhookState(Message):
    """Whether the calls to an endpoint fail (bucket `webhooks`)."""

    failing_since: Timestamp | None = None  # no call has succeeded since
    disabled_at: Timestamp | None = None  # only tests are sent; one that succeeds enables the endpoint
    note: str | None = None


class WebhookDelivery(Message):
    """A delivery that has not succeeded (stream WEBHOOK_Q); its subject names the endpoint and the job."""

    attempts: Count = 0
    due_at: Timestamp = 0.0
    by: str = ""  # the sender that stored it last: another one leaves it alone for a while


class WebhookAttempt(Message):
    """One call to an endpoint, or a delivery that was dropped without one (stream WEBHOOK_LOG)."""

    webhook_id: str
    type: str  # of the event, or `webhook.test`
    job_id: Token | None = None
    attempt: Count
    at: Timestamp = Field(default_factory=time.time)
    duration_ms: Count = 0
    status: Count | None = None  # of the HTTP answer
    outcome: Literal["delivered", "retry", "failed", "dropped"]
    error: str | None = None
    next_at: Timestamp | None = None
