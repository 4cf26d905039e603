"""/api/generate: submit, follow and cancel edits, and download their results."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.exceptions import HTTPException

from services.gateway.access.authentication import WRONG_KEY
from services.gateway.access.principal import Principal
from services.gateway.api.debug_info import debug_info
from services.gateway.api.events import job_stream
from services.gateway.api.job_views import status_of
from services.gateway.api.schemas import Accepted, Cancelled, GenerateSubmission, Result, ResultWithDebugInfo, Status
from services.gateway.api.submissions import submit
from services.gateway.core import debug_sessions
from services.gateway.core.pieces import Pictures
from services.gateway.deps import CurrentOwner, CurrentPrincipal, Deps, InjectedDeps
from services.gateway.http.disconnect import cancel_on_disconnect
from services.gateway.http.json_body import json_body, openapi_body
from shared.errors import Stopping
from shared.messages import Done, ImageRef, JobRecord, JobSubmit

router = APIRouter(prefix="/api/generate", tags=["edits"])
SubmissionBody = Annotated[GenerateSubmission, Depends(json_body(GenerateSubmission))]
_BODY = openapi_body(GenerateSubmission)
_CACHE_CONTROL = "max-age=31536000, immutable"  # a job's result never changes


@router.post("", openapi_extra=_BODY)
@router.post("/async", openapi_extra=_BODY)
async def submit_job(submission: SubmissionBody, deps: InjectedDeps, owner: CurrentOwner) -> Accepted:
    """Submit an edit. The job is stored before the response."""
    return Accepted(task_id=await submit(deps.jobs, deps.uploads, owner, submission))


@router.post("/stream", openapi_extra=_BODY, response_class=Response)
async def submit_and_stream(submission: SubmissionBody, deps: InjectedDeps, principal: CurrentPrincipal) -> Response:
    """Submit an edit and stream its states."""
    return await stream(await submit(deps.jobs, deps.uploads, principal.owner, submission), deps, principal)


@router.get("/stream/{task_id}", response_class=Response)
async def stream(task_id: str, deps: InjectedDeps, principal: CurrentPrincipal) -> Response:
    """Stream each change of the job's state as a server-sent event. The stream ends with the job."""
    record = await deps.jobs.with_broker(partial(deps.jobs.find, principal.owner, task_id))
    return job_stream(deps.jobs, record, deps.reader(principal))


@router.get("/status/{task_id}")
async def status(task_id: str, deps: InjectedDeps, owner: CurrentOwner) -> Status:
    """Return the job's state."""
    return status_of(await deps.jobs.find(owner, task_id))


@router.post("/async/cancel/{task_id}")
async def cancel(task_id: str, deps: InjectedDeps, owner: CurrentOwner) -> Cancelled:
    """Cancel a queued or running job at once."""
    cancelled = await deps.jobs.cancel(owner, task_id)
    message = "The job is cancelled." if cancelled else "The job had already ended."
    return Cancelled(message=message, task_id=task_id)


@router.get("/result/{task_id}", response_model=Result | ResultWithDebugInfo)
async def result(task_id: str, request: Request, deps: InjectedDeps, principal: CurrentPrincipal) -> Response:
    """Return the facts about the job after its end. If the job failed, return its error."""

    async def respond(record: JobRecord, done: Done) -> Response:
        pictures = Pictures(deps.images)
        response = Result(
            task_id=task_id,
            generation_time=done.duration_ms / 1000,
            model_used=done.engine,
            parameters_used=_parameters(await deps.jobs.submission_of(record), record, done),
        )
        session = done.debug and await debug_sessions.find_session(
            deps.bus, deps.ownership, principal.owner, done.debug
        )
        if session:
            facts = await debug_info(deps.images, session, pictures)
            response = ResultWithDebugInfo(**response.model_dump(), debug_info=facts)
        return await pictures.answer(response)

    return await _respond_after_end(request, deps, principal, task_id, respond)


@router.get("/result-image/{task_id}", response_class=Response)
async def result_image(
    task_id: str,
    request: Request,
    deps: InjectedDeps,
    principal: CurrentPrincipal,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the result as the worker encoded it, after the job's end."""

    async def read(ref: ImageRef) -> bytes:
        return await deps.images.get(ref.bucket, ref.sha256)

    async def respond(_: JobRecord, done: Done) -> Response:
        etag = f'"{done.result.sha256}"'
        headers = {
            "ETag": etag,
            "Cache-Control": f"{'private' if deps.authenticator else 'public'}, {_CACHE_CONTROL}",
            "X-Content-Type-Options": "nosniff",
        }
        if if_none_match and etag in if_none_match:
            return Response(status_code=304, headers=headers)
        data = await deps.uploads.read_result(principal.owner, done.result, read)
        return Response(data, media_type=done.result.content_type, headers=headers)

    return await _respond_after_end(request, deps, principal, task_id, respond)


async def _respond_after_end(
    request: Request,
    deps: Deps,
    principal: Principal,
    task_id: str,
    respond: Callable[[JobRecord, Done], Awaitable[Response]],
) -> Response:
    """Wait for the job's end and respond, while the client stays connected and if its key is still valid.

    If the gateway stops first, redirect the request to its own address. The client, which would show any error to the
    user and give up, then waits on the next gateway.
    """

    async def respond_if_allowed(record: JobRecord, done: Done) -> Response:
        if not deps.reader(principal).may_read():
            raise HTTPException(401, WRONG_KEY)
        return await respond(record, done)

    try:
        return await cancel_on_disconnect(request, deps.jobs.result(principal.owner, task_id, respond_if_allowed))
    except Stopping as error:
        # Relative to the path, in front of which a proxy may have a prefix. The query can hold a signature.
        location = quote(task_id, safe="") + (f"?{request.url.query}" if request.url.query else "")
        raise HTTPException(307, error.message, {"Location": location}) from None


def _parameters(
    submission: JobSubmit | None, record: JobRecord, done: Done
) -> dict[str, str | int | float | bool | None]:
    if submission is None:
        return {}
    return {
        "prompt": submission.prompt,
        "negative_prompt": submission.negative_prompt,
        "num_inference_steps": submission.steps,
        "guidance_scale": submission.guidance,
        "true_cfg_scale": submission.guidance,
        "seed": done.seed,
        "image_size": f"{done.result.width}x{done.result.height}",
        "generation_time": done.duration_ms / 1000,
        "timestamp": record.updated_at,
        "has_reference_image": submission.reference is not None,
        "task_type": submission.task.value,
    }
