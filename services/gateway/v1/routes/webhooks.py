"""/v1/webhooks: endpoints that are called when a job ends, by the Standard Webhooks specification."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.gateway.access.forwarded import origin_of, public_path
from services.gateway.core.jobs import require_ended
from services.gateway.deps import CurrentOwner, CurrentPrincipal, InjectedDeps
from services.gateway.http.json_body import json_body
from services.gateway.v1.openapi_responses import can_fail, function_name, json_can_fail, json_request
from services.gateway.v1.webhooks.schemas import (
    NewWebhook,
    Webhook,
    WebhookCall,
    WebhookCalls,
    WebhookList,
    WebhookRepetition,
    WebhookSending,
    WebhookSubmission,
)
from services.gateway.webhooks.endpoints import KnownEndpoint, public_key_of
from shared.webhook_messages import WebhookAttempt, WebhookState

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], generate_unique_id_function=function_name)
SubmissionBody = Annotated[WebhookSubmission, Depends(json_body(WebhookSubmission))]
RepetitionBody = Annotated[WebhookRepetition, Depends(json_body(WebhookRepetition))]


@router.post(
    "",
    status_code=201,
    response_description="The endpoint, with its secret.",
    openapi_extra=json_request(WebhookSubmission),
    responses=json_can_fail(413, 422, 429, 503),
)
async def create_webhook(
    submission: SubmissionBody, request: Request, response: Response, deps: InjectedDeps, principal: CurrentPrincipal
) -> NewWebhook:
    """Make an endpoint. It receives the ends of the owner's jobs from now on. A key has at most 20."""
    base_url = origin_of(request) + public_path("")
    endpoint = await deps.webhooks.create(principal, submission.url, submission.events, base_url)
    response.headers["Location"] = public_path(f"/v1/webhooks/{endpoint.id}")
    webhook = _webhook(KnownEndpoint(endpoint, WebhookState()))
    return NewWebhook(**webhook.model_dump(), secret=endpoint.secret)


@router.get("", response_description="The endpoints.", responses=can_fail(503))
async def list_webhooks(deps: InjectedDeps, owner: CurrentOwner) -> WebhookList:
    """List your endpoints."""
    return WebhookList(webhooks=[_webhook(known) for known in await deps.webhooks.list_of(owner)])


@router.get("/{webhook}", response_description="The endpoint.", responses=can_fail(404, 422, 503))
async def read_webhook(webhook: str, deps: InjectedDeps, owner: CurrentOwner) -> Webhook:
    """Return an endpoint."""
    return _webhook(await deps.webhooks.find(owner, webhook))


@router.delete(
    "/{webhook}",
    status_code=204,
    response_class=Response,
    responses={
        204: {"description": "The endpoint is deleted. A call that runs may still arrive."},
        **can_fail(404, 422, 503),
    },
)
async def delete_webhook(webhook: str, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Delete an endpoint with its waiting deliveries and its log."""
    await deps.webhooks.delete(owner, webhook)
    return Response(status_code=204)


@router.post(
    "/{webhook}/test", status_code=202, response_description="A test is sent.", responses=can_fail(404, 422, 429, 503)
)
async def check_webhook(webhook: str, deps: InjectedDeps, owner: CurrentOwner) -> WebhookSending:
    """Send a test, once. The outcome is in the endpoint's attempts; success enables a disabled endpoint."""
    return WebhookSending(webhook_id=await deps.webhooks.send_test(owner, webhook))


@router.post(
    "/{webhook}/redeliver",
    status_code=202,
    response_description="The end of the job is sent again.",
    openapi_extra=json_request(WebhookRepetition),
    responses=json_can_fail(404, 409, 410, 413, 422, 429, 503),
)
async def redeliver_webhook(
    webhook: str, repetition: RepetitionBody, deps: InjectedDeps, owner: CurrentOwner
) -> WebhookSending:
    """Send the end of a job again, whether it was delivered, failed or never sent."""
    record = await deps.jobs.find(owner, repetition.job_id)
    require_ended(record)
    return WebhookSending(webhook_id=await deps.webhooks.send_again(owner, webhook, record.job_id))


@router.get("/{webhook}/attempts", response_description="The attempts.", responses=can_fail(404, 422, 503))
async def list_webhook_attempts(webhook: str, deps: InjectedDeps, owner: CurrentOwner) -> WebhookCalls:
    """List the last attempts at deliveries to an endpoint."""
    return WebhookCalls(attempts=[_call(attempt) for attempt in await deps.webhooks.attempts(owner, webhook)])


def _webhook(known: KnownEndpoint) -> Webhook:
    endpoint, state = known.endpoint, known.state
    return Webhook(
        id=endpoint.id,
        key_id=endpoint.key_id,
        url=endpoint.url,
        events=endpoint.events,
        public_key=public_key_of(endpoint),
        created_at=_datetime(endpoint.created_at),
        failing_since=_datetime_or_none(state.failing_since),
        disabled_at=_datetime_or_none(state.disabled_at),
        note=state.note,
    )


def _call(attempt: WebhookAttempt) -> WebhookCall:
    return WebhookCall(
        **attempt.model_dump(include={"webhook_id", "type", "job_id", "attempt", "duration_ms", "status", "error"}),
        at=_datetime(attempt.at),
        outcome=attempt.outcome,
        next_at=_datetime_or_none(attempt.next_at),
    )


def _datetime_or_none(epoch_s: float | None) -> datetime | None:
    return None if epoch_s is None else _datetime(epoch_s)


def _datetime(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
