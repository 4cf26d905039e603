"""/api/visualization: the original and the result of a job."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.exceptions import HTTPException

from services.gateway.api.archives import zip_response
from services.gateway.api.before_after import find_generated, find_original, png_pieces, png_response, require_done
from services.gateway.api.job_views import metadata_of
from services.gateway.deps import CurrentOwner, InjectedDeps

router = APIRouter(prefix="/api/visualization", tags=["debug"])


@router.get("/{job_id}/original", response_class=Response)
async def original(job_id: str, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Return the upload."""
    record = await deps.jobs.find(owner, job_id)
    found = await find_original(deps.jobs, deps.uploads, deps.images, owner, record)
    return await png_response(deps.images, deps.decoders, found)


@router.get("/{job_id}/generated", response_class=Response)
async def get_generated(job_id: str, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Return the result."""
    record = await deps.jobs.find(owner, job_id)
    generated = await find_generated(deps.uploads, deps.images, owner, record)
    return await png_response(deps.images, deps.decoders, generated)


@router.get("/{job_id}/download", response_class=Response)
async def download(
    job_id: str, deps: InjectedDeps, owner: CurrentOwner, kind: Annotated[str, Query(alias="format")] = "zip"
) -> Response:
    """Return both images and the job's metadata in a ZIP archive."""
    if kind != "zip":
        raise HTTPException(400, "The only supported format is zip.")
    record = await deps.jobs.find(owner, job_id)
    done = require_done(record)
    refs = {
        "original.png": await find_original(deps.jobs, deps.uploads, deps.images, owner, record),
        "generated.png": await find_generated(deps.uploads, deps.images, owner, record),
    }
    images = {name: png_pieces(deps.images, deps.decoders, ref) for name, ref in refs.items()}
    return await zip_response(record.job_id, images, metadata_of(record, done).model_dump(mode="json", by_alias=True))
