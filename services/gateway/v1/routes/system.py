"""/v1 itself: how the system is, and photos to try it with."""

import asyncio

from fastapi import APIRouter

from services.gateway.api.routes.system import system_health
from services.gateway.deps import CurrentPrincipal, InjectedDeps
from services.gateway.v1 import samples as sample_photos
from services.gateway.v1.openapi_responses import by_name
from services.gateway.v1.schemas import Health, Sample

router = APIRouter(prefix="/v1", tags=["system"], generate_unique_id_function=by_name)


@router.get("/health", response_description="All services.")
async def read_health(deps: InjectedDeps, principal: CurrentPrincipal) -> Health:
    """Ask every service how it is, all at once; `streams` tells what is kept less safely than declared.

    Details are for keys of the scope `admin`.
    """
    return Health.model_validate(await system_health(deps, principal))


@router.get("/samples", response_description="All samples.")
async def list_samples() -> list[Sample]:
    """List the photos that come with the studio page."""
    return list(await asyncio.to_thread(sample_photos.samples))
