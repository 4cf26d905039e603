"""/api/visualization: an edit before and after, under the id of its job."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.exceptions import HTTPException

from services.gateway.api import before_after
from services.gateway.api.routes.debug import zipped
from services.gateway.core.debug_sessions import archive
from services.gateway.deps import CurrentOwner, InjectedDeps
from services.gateway.v1.job_views import Job

router = APIRouter(prefix="/api/visualization", tags=["debug"])


@router.get("/{job_id}/original", response_class=Response)
async def original(job_id: str, deps: InjectedDeps, user: CurrentOwner) -> Response:
    """Give the upload."""
    record = await deps.jobs.find(user, job_id)
    return Response(await before_after.original(deps, record), media_type="image/png")


@router.get("/{job_id}/generated", response_class=Response)
async def generated(job_id: str, deps: InjectedDeps, user: CurrentOwner) -> Response:
    """Give the result."""
    record = await deps.jobs.find(user, job_id)
    return Response(await before_after.generated(deps, record), media_type="image/png")


@router.get("/{job_id}/download", response_class=Response)
async def download(
    job_id: str, deps: InjectedDeps, user: CurrentOwner, kind: Annotated[str, Query(alias="format")] = "zip"
) -> Response:
    """Give both, and what is known of the job, in one archive."""
    if kind != "zip":
        raise HTTPException(400, "Only the format zip is offered.")
    record = await deps.jobs.find(user, job_id)
    pictures = {
        "original.png": await before_after.original(deps, record),
        "generated.png": await before_after.generated(deps, record),
    }
    return zipped(archive(pictures, Job.of(record).model_dump(mode="json", by_alias=True)), record.job_id)
