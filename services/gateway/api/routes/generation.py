"""/api/generate: edits, from the order to the picture."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from services.gateway.api.debug_info import debug_info
from services.gateway.api.events import job_stream
from services.gateway.api.job_views import status_of
from services.gateway.api.schemas import Accepted, Cancelled, DebuggedResult, GenerateSubmission, Result, Status
from services.gateway.api.submissions import prepare
from services.gateway.core import debug_sessions
from services.gateway.deps import CurrentOwner, InjectedDeps
from services.gateway.http.json_body import json_body, openapi_body
from shared.messages import Done as JobDone
from shared.messages import JobRecord, JobSubmit

router = APIRouter(prefix="/api/generate", tags=["edits"])
Order = Annotated[GenerateSubmission, Depends(json_body(GenerateSubmission))]
_BODY = openapi_body(GenerateSubmission)
_FOR_EVER = "max-age=31536000, immutable"  # an id never gets another picture


@router.post("", openapi_extra=_BODY)
@router.post("/async", openapi_extra=_BODY)
async def submit(order: Order, deps: InjectedDeps, user: CurrentOwner) -> Accepted:
    """Accept an edit; it is logged when this answers."""
    deps.admission.check(user)
    return Accepted(task_id=await deps.jobs.submit(user, await prepare(deps.uploads, user, order)))


@router.post("/stream", openapi_extra=_BODY, response_class=Response)
async def submit_and_stream(order: Order, deps: InjectedDeps, user: CurrentOwner) -> Response:
    """Accept an edit and answer with its stream."""
    accepted = await submit(order, deps, user)
    return await stream(accepted.task_id, deps, user)


@router.get("/stream/{task_id}", response_class=Response)
async def stream(task_id: str, deps: InjectedDeps, user: CurrentOwner) -> Response:
    """Tell each change of the job's state as a server-sent event, and end with the job."""
    return job_stream(deps.jobs, await deps.jobs.find(user, task_id), deps.settings.heartbeat_s)


@router.get("/status/{task_id}")
async def status(task_id: str, deps: InjectedDeps, user: CurrentOwner) -> Status:
    """Tell the job's state now."""
    return status_of(await deps.jobs.find(user, task_id))


@router.post("/async/cancel/{task_id}")
async def cancel(task_id: str, deps: InjectedDeps, user: CurrentOwner) -> Cancelled:
    """End the job at once, waiting or running."""
    ended = await deps.jobs.cancel(user, task_id)
    return Cancelled(message="The job is cancelled." if ended else "The job had ended before.", task_id=task_id)


@router.get("/result/{task_id}", response_model=Result | DebuggedResult)
async def result(task_id: str, deps: InjectedDeps, user: CurrentOwner) -> Response:
    """Tell how the job went, once it is done; its failure is this request's failure."""
    record, done = await deps.jobs.result(user, task_id)
    answer = Result(
        task_id=task_id,
        generation_time=done.duration_ms / 1000,
        model_used=done.engine,
        parameters_used=_parameters(await deps.jobs.submission_of(record), record, done),
    )
    session = done.debug and await debug_sessions.find(deps.bus, user, done.debug)
    if session:
        answer = DebuggedResult(**answer.model_dump(), debug_info=await debug_info(deps.images, session))
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get("/result-image/{task_id}", response_class=Response)
async def result_image(
    task_id: str, deps: InjectedDeps, user: CurrentOwner, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Give the picture as the worker encoded it, once the job is done."""
    _, done = await deps.jobs.result(user, task_id)
    etag = f'"{done.result.sha256}"'
    headers = {
        "ETag": etag,
        "Cache-Control": f"{'private' if deps.authenticator else 'public'}, {_FOR_EVER}",
        "X-Content-Type-Options": "nosniff",
    }
    if if_none_match and etag in if_none_match:
        return Response(status_code=304, headers=headers)
    picture = await deps.images.get("results", done.result.sha256)
    return Response(picture, media_type=done.result.content_type, headers=headers)


def _parameters(
    order: JobSubmit | None, record: JobRecord, done: JobDone
) -> dict[str, str | int | float | bool | None]:
    if order is None:
        return {}
    return {
        "prompt": order.prompt,
        "negative_prompt": order.negative_prompt,
        "num_inference_steps": order.steps,
        "guidance_scale": order.guidance,
        "true_cfg_scale": order.guidance,
        "seed": done.seed,
        "image_size": f"{done.result.width}x{done.result.height}",
        "generation_time": done.duration_ms / 1000,
        "timestamp": record.updated_at,
        "has_reference_image": order.reference is not None,
        "task_type": order.task.value,
    }
