"""/v1/jobs: submit, list, read and cancel edits, and download their results."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from services.gateway.core import listing
from services.gateway.core.deletion import delete_job
from services.gateway.core.jobs import done_of
from services.gateway.deps import CurrentOwner, CurrentPrincipal, InjectedDeps, deps_of, principal_of
from services.gateway.http.image_response import image_response
from services.gateway.http.json_body import json_body
from services.gateway.v1.job_views import job_of, links_of, write_receipt
from services.gateway.v1.openapi_responses import (
    can_fail,
    describe_error,
    function_name,
    image_bytes,
    json_can_fail,
    json_request,
)
from services.gateway.v1.plain_route import PlainRoute
from services.gateway.v1.results.patches import patch_response, with_place
from services.gateway.v1.routes.rendition_queries import RESULT_TYPES, WantedResult
from services.gateway.v1.schemas import AcceptedJob, Job, JobPage, JobSubmission, Receipt
from services.gateway.v1.submissions import FORGOTTEN, submit
from shared.errors import BadInput, JobCancelled
from shared.messages import Done, ImageRef, JobRecord, JobState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], generate_unique_id_function=function_name)
_read_submission = json_body(JobSubmission)
_KEY = "Idempotency-Key"
_LONGEST_KEY = 255
_KEY_PARAMETER = {
    "name": _KEY,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": _LONGEST_KEY},
    "description": "A text of your choice. The same submission with the same key is the same job.",
}
WantsPatch = Annotated[
    bool,
    Query(
        description="Only the changed rectangle. Lay it over the photo at X-Patch-X and X-Patch-Y: every pixel beside "
        "it is the photo's. It may be the whole result, at 0 and 0."
    ),
]


async def submit_job(request: Request) -> Response:
    """Submit an edit. The job is stored before the response and runs to its end, also after the client disconnects."""
    deps, principal = deps_of(request), principal_of(request)
    key = _read_key(request)
    submission = await _read_submission(request)
    job_id, is_new = await submit(deps.jobs, deps.uploads, principal.owner, key, submission)
    status = JobState.QUEUED if is_new else (await deps.jobs.find(principal.owner, job_id)).state
    links = links_of(job_id, deps.url_signer(principal))
    accepted = AcceptedJob(id=job_id, status=status, links=links).model_dump_json(by_alias=True)
    return Response(accepted, 202 if is_new else 200, {"Location": links.self_}, "application/json")


def _read_key(request: Request) -> str | None:
    key = request.headers.get(_KEY)
    if key is not None and not 1 <= len(key) <= _LONGEST_KEY:
        raise BadInput(f"The field {_KEY} is not valid: it must have 1 to {_LONGEST_KEY} characters.")
    return key


router.add_api_route(
    "",
    submit_job,
    methods=["POST"],
    status_code=202,
    response_model=AcceptedJob,
    response_description="The job is accepted.",
    openapi_extra=json_request(JobSubmission) | {"parameters": [_KEY_PARAMETER]},
    responses={
        200: {"model": AcceptedJob, "description": "The job that was submitted before with this key."},
        **json_can_fail(410, 413, 422, 429, 503),
        409: describe_error(409, FORGOTTEN),
    },
    route_class_override=PlainRoute,
)


@router.get("", response_description="A page of jobs.", responses=can_fail(422, 503))
async def list_jobs(
    deps: InjectedDeps,
    principal: CurrentPrincipal,
    status: JobState | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200, description="The last page's `next_cursor`.")] = None,
) -> JobPage:
    """List your jobs, newest first, optionally only those in one state."""
    records, next_cursor = await listing.list_page(
        deps.bus, deps.ownership, principal.owner, status=status, limit=limit, cursor=cursor
    )
    return JobPage(jobs=[job_of(record, deps.url_signer(principal)) for record in records], next_cursor=next_cursor)


@router.get("/{job_id}", response_description="The job's state.", responses=can_fail(404, 410, 503))
async def read_job(job_id: str, deps: InjectedDeps, principal: CurrentPrincipal) -> Job:
    """Return a job's state."""
    return job_of(await deps.jobs.find(principal.owner, job_id), deps.url_signer(principal))


@router.delete(
    "/{job_id}",
    response_model=Job,
    response_description="The job's state after the request.",
    responses={204: {"description": "The job and its data are deleted."}, **can_fail(404, 410, 503)},
)
async def cancel_job(
    job_id: str,
    deps: InjectedDeps,
    principal: CurrentPrincipal,
    *,
    purge: Annotated[bool, Query(description="Also delete the job's data: result, previews, prompt.")] = False,
) -> Job | Response:
    """Cancel a queued or running job at once. An ended job does not change, except that `purge` deletes it."""
    if purge:
        await delete_job(deps.bus, deps.ownership, deps.jobs, deps.stores, principal.owner, job_id)
        return Response(status_code=204)
    await deps.jobs.cancel(principal.owner, job_id)
    return job_of(await deps.jobs.find(principal.owner, job_id), deps.url_signer(principal))


@router.head("/{job_id}/result", include_in_schema=False)  # for the size and the ETag
@router.get(
    "/{job_id}/result",
    response_class=Response,
    responses=with_place(image_bytes(*RESULT_TYPES)) | can_fail(404, 409, 410, 413, 416, 422, 503),
)
async def download_result(
    job_id: str,
    request: Request,
    deps: InjectedDeps,
    owner: CurrentOwner,
    wanted: WantedResult,
    *,
    patch: WantsPatch = False,
) -> Response:
    """Download the result as the worker encoded it, or in another format. Supports `Range` and `If-None-Match`."""
    if patch and "format" in request.query_params:
        raise BadInput("The query has patch and format; a patch is a PNG, so leave one of them out.")
    record = await deps.jobs.find(owner, job_id)
    done = _done_of(record)

    async def respond(result: ImageRef) -> Response:
        found = done.model_copy(update={"result": result})
        if patch:
            return await patch_response(deps.images, found, request.headers)
        if wanted is not None:
            result = (await deps.renditions.of_result(owner, record, found, wanted)).image
        response = await image_response(deps.images, result, request.headers, has_body=request.method != "HEAD")
        response.headers["Vary"] = "Accept"
        return response

    return await deps.uploads.read_result(owner, done.result, respond)


@router.get(
    "/{job_id}/receipt",
    response_model=Receipt,
    response_description="The receipt.",
    responses=can_fail(404, 409, 410, 503),
)
async def read_receipt(job_id: str, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Return the hashes of inputs and result, the pixels changed outside the edited region, and the edits before it."""
    record = await deps.jobs.find(owner, job_id)
    done, submission = _done_of(record), await deps.jobs.submission_of(record)
    earlier = await deps.chains.steps_before(owner, record, submission)
    body = write_receipt(record, done, submission, earlier)
    return Response(body, media_type="application/json")


def _done_of(record: JobRecord) -> Done:
    if record.state is JobState.CANCELLED:
        raise JobCancelled("The job was cancelled; it has no result.")
    return done_of(record)
