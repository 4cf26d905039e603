"""The bodies of /v1/webhooks, and the bodies that endpoints receive, which the job manager writes."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 (pydantic reads the annotations)
from typing import Annotated, Any, Literal

from pydantic import Field

from services.gateway.v1 import examples
from services.gateway.v1.schemas import JobError, Resource, with_examples
from shared.messages import Sha256, Token  # noqa: TC001 (as above)
from shared.webhook_messages import WebhookEvent

_ID, _AT = "wh_5f1d0c9b8a7e6f5d4c", "2026-03-01T09:30:02.480Z"
_ENDPOINT = {
    "id": _ID,
    "key_id": "0f1e2d3c4b5a",
    "url": "https://example.com/hooks/artmancer",
    "events": ["job.done", "job.failed", "job.cancelled"],
    "public_key": "whpk_Jrn1bAkVR0RgCfOvMhfAQvyFg3TSKNGgZ5h2vQ1lD9E=",
    "created_at": "2026-03-01T09:00:00Z",
    "failing_since": None,
    "disabled_at": None,
    "note": None,
}
_RESULT = {
    "url": f"https://photos.example.com/v1/jobs/{examples.JOB}/result?key=0f1e2d3c4b5a&webhook={_ID}"
    "&expires=1772357702&signature=gD1n4l2Yw9X7zB1p0o8u6r5t3e1w9q8a7s6d5f4g3h2",
    "expires_at": "2026-03-01T09:35:02.000Z",
    **{name: examples.IMAGE[name] for name in ("sha256", "width", "height", "content_type", "bytes")},
}
_ATTEMPT = {
    "webhook_id": "msg_9f86d081884c7d659a2feaa0c55ad0",
    "type": "job.done",
    "job_id": examples.JOB,
    "attempt": 1,
    "at": _AT,
    "duration_ms": 84,
    "status": 503,
    "outcome": "retry",
    "error": "The endpoint answered 503.",
    "next_at": "2026-03-01T09:30:07.480Z",
}


def _example(kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "timestamp": _AT, "data": {"job_id": examples.JOB, "error": None, "result": None, **data}}


class WebhookSubmission(Resource):
    """A new endpoint."""

    model_config = with_examples({"url": _ENDPOINT["url"], "events": ["job.done", "job.failed"]})

    url: Annotated[
        str,
        Field(
            max_length=2048,
            description="An address with https, without user and fragment; its port is 443, or 1024 or more.",
        ),
    ]
    events: Annotated[list[WebhookEvent], Field(min_length=1, max_length=3)] = Field(
        default_factory=lambda: list(WebhookEvent)
    )


class Webhook(Resource):
    """An endpoint. It ends with the API key that made it."""

    model_config = with_examples(_ENDPOINT)

    id: str
    key_id: str = Field(description="The id of the API key that made it; empty on a server without keys.")
    url: str
    events: list[WebhookEvent]
    public_key: str = Field(description="Verifies the signatures v1a (Ed25519).")
    created_at: datetime
    failing_since: datetime | None = Field(description="No call has succeeded since then.")
    disabled_at: datetime | None = Field(description="Only tests are sent; one that succeeds enables the endpoint.")
    note: str | None = Field(description="The reason why the endpoint is disabled.")


class NewWebhook(Webhook):
    """A new endpoint with its secret, which is shown this one time."""

    model_config = with_examples({**_ENDPOINT, "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"})

    secret: str = Field(description="Verifies the signatures v1 (HMAC-SHA256).")


class WebhookList(Resource):
    """The endpoints of all keys of the owner, the oldest first."""

    model_config = with_examples({"webhooks": [_ENDPOINT]})

    webhooks: list[Webhook]


class WebhookSending(Resource):
    """The webhook is stored and will be sent."""

    model_config = with_examples({"webhook_id": _ATTEMPT["webhook_id"]})

    webhook_id: str = Field(description="The header `webhook-id`. It is the same whenever this webhook is sent.")


class WebhookRepetition(Resource):
    """The job; its end is sent again."""

    model_config = with_examples({"job_id": examples.JOB})

    job_id: Token


class WebhookCall(Resource):
    """One attempt at a delivery."""

    model_config = with_examples(_ATTEMPT)

    webhook_id: str
    type: str
    job_id: str | None
    attempt: int
    at: datetime
    duration_ms: int
    status: int | None = Field(description="Of the answer; null: there was none.")
    outcome: Literal["delivered", "retry", "failed", "dropped"]
    error: str | None
    next_at: datetime | None = Field(description="The time of the next attempt.")


class WebhookCalls(Resource):
    """The last 100 attempts, the newest first, of the last seven days."""

    model_config = with_examples({"attempts": [_ATTEMPT]})

    attempts: list[WebhookCall]


# --- bodies that endpoints receive ---------------------------------------------------------------------------------


class WebhookResult(Resource):
    """The result of a job. The URL opens without a key until it expires; later use the job's own link with a key."""

    model_config = with_examples(_RESULT)

    url: str
    expires_at: datetime | None = Field(description="Null: the server requires no keys, so the URL never expires.")
    sha256: Sha256
    width: int
    height: int
    content_type: str
    bytes: int


class WebhookJob(Resource):
    """The job that has ended."""

    model_config = with_examples(_example("job.done", status="done", result=_RESULT)["data"])

    job_id: str
    status: Literal["done", "failed", "cancelled"]
    error: JobError | None
    result: WebhookResult | None


class JobWebhook(Resource):
    """The body that an endpoint receives when a job has ended."""

    model_config = with_examples(
        _example("job.done", status="done", result=_RESULT),
        _example("job.failed", status="failed", error={"code": "engine_failed", "message": "The engine failed."}),
        _example("job.cancelled", status="cancelled"),
    )

    type: WebhookEvent
    timestamp: datetime = Field(description="The time of the event; that of the attempt is in `webhook-timestamp`.")
    data: WebhookJob


class CheckedWebhook(Resource):
    """The endpoint that is tested."""

    model_config = with_examples({"webhook_id": _ID})

    webhook_id: str


class CheckWebhook(Resource):
    """The body that an endpoint receives as a test."""

    model_config = with_examples({"type": "webhook.test", "timestamp": _AT, "data": {"webhook_id": _ID}})

    type: Literal["webhook.test"]
    timestamp: datetime
    data: CheckedWebhook


_HEADERS = {
    "webhook-id": "The same in all attempts: drop repetitions.",
    "webhook-timestamp": "The time of the attempt, in seconds since the epoch.",
    "webhook-signature": "`v1,` with HMAC-SHA256 by the secret and `v1a,` with Ed25519, of id.timestamp.body.",
}
SENT_BODIES = (JobWebhook, CheckWebhook)


def describe_webhooks() -> dict[str, Any]:
    """Return the section `webhooks` of the OpenAPI document."""
    sent = {
        **{event.value: ("A job has ended.", "JobWebhook") for event in WebhookEvent},
        "webhook.test": ("A test was requested.", "CheckWebhook"),
    }
    return {name: {"post": _describe(name, meaning, model)} for name, (meaning, model) in sent.items()}


def _describe(name: str, meaning: str, model: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    parameters = [
        {"name": header, "in": "header", "required": True, "schema": {"type": "string"}, "description": text}
        for header, text in _HEADERS.items()
    ]
    return {
        "summary": meaning,
        "operationId": "receive_" + name.replace(".", "_"),
        "tags": ["webhooks"],
        "security": [],
        "parameters": parameters,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "2XX": {"description": "Received."},
            "410": {"description": "The endpoint is disabled."},
            "default": {"description": "Not received: it is sent again. Redirects are not followed."},
        },
    }
