"""/v1/jobs: edits, from the order to the receipt."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from services.gateway.core import listing
from services.gateway.core.jobs import done_of
from services.gateway.deps import CurrentOwner, CurrentPrincipal, InjectedDeps
from services.gateway.http.image_response import image_response
from services.gateway.http.json_body import json_body
from services.gateway.v1 import submissions
from services.gateway.v1.job_views import AcceptedJob, Job, JobPage, JobSubmission, Links, Receipt
from services.gateway.v1.openapi_responses import PICTURE, by_name, can_fail, taking
from shared.errors import JobCancelled
from shared.messages import Done, JobRecord, JobState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], generate_unique_id_function=by_name)
Submission = Annotated[JobSubmission, Depends(json_body(JobSubmission))]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any text of yours: the same submission with the same key is the same job.",
    ),
]


@router.post(
    "",
    status_code=202,
    response_description="It is accepted.",
    openapi_extra=taking(JobSubmission),
    responses={
        200: {"model": AcceptedJob, "description": "The job that this key began before."},
        **can_fail(413, 422, 429, 503),
    },
)
async def submit_job(
    submission: Submission, response: Response, deps: InjectedDeps, principal: CurrentPrincipal, key: Key = None
) -> AcceptedJob:
    """Accept an edit; it is logged when this answers, and runs even if nobody watches."""
    job_id, is_new = await submissions.submit(deps.jobs, deps.uploads, principal.owner, key, submission)
    status = JobState.QUEUED if is_new else (await deps.jobs.find(principal.owner, job_id)).state
    links = Links.of(job_id, deps.url_signer(principal))
    response.status_code = 202 if is_new else 200
    response.headers["Location"] = links.self_
    return AcceptedJob(id=job_id, status=status, links=links)


@router.get("", response_description="A part of the list.", responses=can_fail(422, 503))
async def list_jobs(
    deps: InjectedDeps,
    principal: CurrentPrincipal,
    status: JobState | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200, description="The `next_cursor` of the part before.")] = None,
) -> JobPage:
    """List your jobs, newest first; only those in one state, if that is given."""
    records, behind = await listing.page(deps.bus, principal.owner, status=status, limit=limit, cursor=cursor)
    return JobPage(jobs=[Job.of(record, deps.url_signer(principal)) for record in records], next_cursor=behind)


@router.get("/{job_id}", response_description="Its state.", responses=can_fail(404, 503))
async def read_job(job_id: str, deps: InjectedDeps, principal: CurrentPrincipal) -> Job:
    """Tell where a job stands."""
    return Job.of(await deps.jobs.find(principal.owner, job_id), deps.url_signer(principal))


@router.delete("/{job_id}", response_description="Its state after that.", responses=can_fail(404, 503))
async def cancel_job(job_id: str, deps: InjectedDeps, principal: CurrentPrincipal) -> Job:
    """End a job at once, waiting or running; one that has ended stays as it is."""
    await deps.jobs.cancel(principal.owner, job_id)
    return Job.of(await deps.jobs.find(principal.owner, job_id), deps.url_signer(principal))


@router.head("/{job_id}/result", include_in_schema=False)  # how large it is, and whether it has changed
@router.get(
    "/{job_id}/result",
    response_class=Response,
    responses=PICTURE | can_fail(404, 409, 410, 416, 503),
)
async def download_result(job_id: str, request: Request, deps: InjectedDeps, user: CurrentOwner) -> Response:
    """Give the picture as the worker encoded it. `Range` and `If-None-Match` are heard."""
    done = _done(await deps.jobs.find(user, job_id))
    return await image_response(deps.images, done.result, request.headers)


@router.get("/{job_id}/receipt", response_description="The receipt.", responses=can_fail(404, 409, 410, 503))
async def read_receipt(job_id: str, deps: InjectedDeps, user: CurrentOwner) -> Receipt:
    """Certify what went in, what came out, and how many pixels changed outside the edited region."""
    record = await deps.jobs.find(user, job_id)
    return Receipt.of(record, _done(record), await deps.jobs.submission_of(record))


def _done(record: JobRecord) -> Done:
    if record.state is JobState.CANCELLED:
        raise JobCancelled("The job was cancelled; it has no result.")
    return done_of(record)
