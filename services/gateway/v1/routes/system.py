"""/v1/health, /v1/capabilities and /v1/samples."""

import asyncio

from fastapi import APIRouter

from services.gateway.access.forwarded import public_path
from services.gateway.access.principal import KeyScope
from services.gateway.deps import CurrentPrincipal, InjectedDeps
from services.gateway.v1 import samples
from services.gateway.v1.capabilities import capabilities_of
from services.gateway.v1.openapi_responses import can_fail, function_name
from services.gateway.v1.schemas import Capabilities, Health, Sample
from shared.image_formats import FORMATS, missing_decoders

router = APIRouter(prefix="/v1", tags=["system"], generate_unique_id_function=function_name)


@router.get("/health", response_description="The health of all services.")
async def read_health(deps: InjectedDeps, principal: CurrentPrincipal) -> Health:
    """Return the health of all services and of the broker's streams. Details require a key of the scope `admin`."""
    report = await deps.system.report(full=principal.may(KeyScope.ADMIN))
    missing = missing_decoders()
    return Health.model_validate({**report, "formats": [name for name in FORMATS if name not in missing]})


@router.get("/capabilities", response_description="What can be edited now.", responses=can_fail(503))
async def read_capabilities(deps: InjectedDeps) -> Capabilities:
    """Return engine, obeyed parameters, usual duration and formats of each task, united over all workers."""
    deps.bus.require_connection()
    return capabilities_of(await deps.workers.present())


@router.get("/samples", response_description="All sample photos.")
async def list_samples() -> list[Sample]:
    """List the sample photos of the studio page."""
    known = await asyncio.to_thread(samples.load_samples)
    return [sample.model_copy(update={"url": public_path(sample.url)}) for sample in known]
