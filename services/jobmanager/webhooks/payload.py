"""The body and the headers of a webhook, by the Standard Webhooks specification 1.0.0."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from shared.messages import Cancelled, Done, Failed
from shared.webhook_messages import WebhookEvent
from shared.webhooks import sign_address

if TYPE_CHECKING:
    from shared.messages import Terminal
    from shared.webhook_messages import WebhookEndpoint

TEST = "webhook.test"
_TYPES = {
    "done": WebhookEvent.JOB_DONE,
    "failed": WebhookEvent.JOB_FAILED,
    "cancelled": WebhookEvent.JOB_CANCELLED,
}
MESSAGE_CHARACTERS = 500  # of an error: a webhook stays far below 20 kB


def event_of(end: Done | Failed | Cancelled) -> WebhookEvent:
    """Return the event that the end of a job is."""
    return _TYPES[end.type]


def end_body(end: Terminal, endpoint: WebhookEndpoint, now: float) -> bytes:
    """Return the body for the end of a job; `now` is in seconds since the epoch."""
    data: dict[str, Any] = {"job_id": end.job_id, "status": end.type, "error": None, "result": None}
    if isinstance(end, Failed):
        data["error"] = {"code": end.code, "message": end.message[:MESSAGE_CHARACTERS]}
    if isinstance(end, Done):
        data["result"] = _result(end, endpoint, now)
    return _body(event_of(end), end.at, data)


def check_body(endpoint: WebhookEndpoint, now: float) -> bytes:
    """Return the body of a test."""
    return _body(TEST, now, {"webhook_id": endpoint.id})


def headers(endpoint: WebhookEndpoint, message_id: str, now: float, body: bytes) -> dict[str, str]:
    """Return the headers that identify and sign an attempt at `now`, in seconds since the epoch."""
    from nacl.signing import SigningKey  # noqa: PLC0415 (1 MB that a job manager without webhooks never needs)

    timestamp = str(int(now))
    signed = f"{message_id}.{timestamp}.".encode() + body
    hmac_key = base64.b64decode(endpoint.secret.removeprefix("whsec_"))
    symmetric = hmac.digest(hmac_key, signed, hashlib.sha256)
    asymmetric = SigningKey(base64.b64decode(endpoint.signing_seed.removeprefix("whsk_"))).sign(signed).signature
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{_base64(symmetric)} v1a,{_base64(asymmetric)}",
    }


def _result(done: Done, endpoint: WebhookEndpoint, now: float) -> dict[str, Any]:
    path = f"/v1/jobs/{done.job_id}/result"
    expires_at = None
    if endpoint.address_key is not None:
        expires = str(int(now + endpoint.address_s))
        query = {
            "key": endpoint.key_id,
            "webhook": endpoint.id,
            "expires": expires,
            "signature": sign_address(endpoint.address_key, path, expires),
        }
        path, expires_at = f"{path}?{urlencode(query)}", _time(float(expires))
    image = done.result
    return {
        "url": endpoint.base_url + path,
        "expires_at": expires_at,
        "sha256": image.sha256,
        "width": image.width,
        "height": image.height,
        "content_type": image.content_type,
        "bytes": image.size_bytes,
    }


def _body(kind: str, at: float, data: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "timestamp": _time(at), "data": data}, separators=(",", ":")).encode()


def _time(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
