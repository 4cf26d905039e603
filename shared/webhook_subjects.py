"""The subjects of webhooks. Only this module builds and parses them.

$KV.webhooks.<owner>.endpoint.<endpoint>        KV_webhooks   an endpoint, with its secrets
$KV.webhooks.<owner>.state.<endpoint>           KV_webhooks   whether its calls fail
webhook.q.<owner>.<endpoint>.<kind>.<id>        WEBHOOK_Q     a delivery, until it succeeds: `end` of a job, or `test`
webhook.log.<owner>.<endpoint>                  WEBHOOK_LOG   the last attempts
live.webhook.>                                  core          live copies of WEBHOOK_Q; headers of KV_webhooks
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from shared.errors import BadMessage
from shared.subjects import token

Kind = Literal["end", "test"]
ALL_WEBHOOKS = "$KV.webhooks.>"
ALL_ENDPOINTS = "$KV.webhooks.*.endpoint.*"
ALL_STATES = "$KV.webhooks.*.state.*"
ALL_DELIVERIES = "webhook.q.>"
ALL_ATTEMPTS = "webhook.log.*.*"
LIVE_DELIVERIES = "live.webhook.q.>"
LIVE_ENDPOINTS = "live.webhook.kv.>"
_KINDS = {"end", "test"}


def endpoint(owner: str, endpoint_id: str) -> str:
    """Return the key of an endpoint in the bucket `webhooks`."""
    return f"$KV.webhooks.{token(owner)}.endpoint.{token(endpoint_id)}"


def endpoints_of(owner: str) -> str:
    """Match the endpoints of one owner."""
    return f"$KV.webhooks.{token(owner)}.endpoint.*"


def state(owner: str, endpoint_id: str) -> str:
    """Return the key of an endpoint's state in the bucket `webhooks`."""
    return f"$KV.webhooks.{token(owner)}.state.{token(endpoint_id)}"


def webhooks_of(owner: str) -> str:
    """Match the endpoints of one owner and their states."""
    return f"$KV.webhooks.{token(owner)}.>"


def endpoint_and_state(owner: str, endpoint_id: str) -> str:
    """Match an endpoint and its state."""
    return f"$KV.webhooks.{token(owner)}.*.{token(endpoint_id)}"


def delivery(owner: str, endpoint_id: str, kind: Kind, name: str) -> str:
    """Return the subject of a delivery; `name` is the job's id, or that of a test."""
    return f"webhook.q.{token(owner)}.{token(endpoint_id)}.{kind}.{token(name)}"


def deliveries_to(owner: str, endpoint_id: str) -> str:
    """Match the deliveries to an endpoint."""
    return f"webhook.q.{token(owner)}.{token(endpoint_id)}.>"


def attempts_at(owner: str, endpoint_id: str) -> str:
    """Return the subject of the attempts at one endpoint."""
    return f"webhook.log.{token(owner)}.{token(endpoint_id)}"


@dataclass(frozen=True, slots=True)
class DeliveryAddress:
    """The parts of a delivery's subject."""

    owner: str
    endpoint: str
    kind: Kind
    name: str


def parse_delivery(subject: str) -> DeliveryAddress:
    """Parse the subject of a delivery, `webhook.q...` or its live copy. Raises BadMessage."""
    parts = subject.removeprefix("live.").split(".")
    if len(parts) != 6 or parts[4] not in _KINDS:  # noqa: PLR2004
        raise BadMessage("The subject of a delivery must be webhook.q.<owner>.<endpoint>.<end or test>.<id>.")
    return DeliveryAddress(token(parts[2]), token(parts[3]), cast("Kind", parts[4]), token(parts[5]))
