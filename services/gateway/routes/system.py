"""/api itself: how the system is."""

import asyncio
from typing import Any

from fastapi import APIRouter

from services.gateway import schemas
from services.gateway.deps import Deps, Parts
from services.gateway.health import own_health
from shared import rpc, subjects
from shared.errors import ArtMancerError
from shared.messages import HealthReply, HealthRequest

router = APIRouter(prefix="/api", tags=["system"])
_SERVICES = {  # as the client calls them: as they call themselves
    "generation": "a100worker",
    "segmentation": "segmentation",
    "image_utils": "imageutils",
    "job_manager": "jobmanager",
}


@router.get("")
@router.get("/")
async def root(deps: Parts) -> dict[str, Any]:
    """Say what this is."""
    return {"name": "ArtMancer", **own_health(ready=deps.ready)}


@router.get("/health")
async def health(deps: Parts) -> dict[str, Any]:
    """Say how the gateway is, without asking anybody."""
    return own_health(ready=deps.ready)


@router.get("/system/health")
async def system_health(deps: Parts) -> dict[str, Any]:
    """Ask every service how it is, all at once; `streams` tells what the broker keeps less safely than declared."""
    asking = asyncio.gather(*(_ask(deps, name) for name in _SERVICES.values()))
    answers, weak = await asyncio.gather(asking, deps.durability.weaknesses())
    services = dict(zip(_SERVICES, answers, strict=True))
    well = not weak and all(answer["status"] == "healthy" for answer in answers)
    return {"status": "healthy" if well else "degraded", "services": services, "streams": weak}


@router.post("/clear-cache")
async def clear_cache() -> schemas.Done:
    """Nothing to do, and it says so: what is cached is named by its content and expires by itself."""
    return schemas.Done(message="Caches here are keyed by content and expire by themselves; nothing needs clearing.")


async def _ask(deps: Deps, service: str) -> dict[str, Any]:
    try:
        reply = await rpc.call(
            deps.bus,
            subjects.health(service),
            HealthRequest(),
            HealthReply,
            timeout_s=deps.settings.health_timeout_s,
        )
    except ArtMancerError as error:
        return {"status": "unhealthy", "error": error.message}
    return {"status": reply.status, "instance": reply.instance, **reply.detail}
