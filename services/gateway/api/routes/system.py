"""/api, /api/health, /api/system/health and /api/clear-cache."""

from typing import Any

from fastapi import APIRouter

from services.gateway.access.principal import KeyScope
from services.gateway.api.schemas import Acknowledged
from services.gateway.deps import CurrentPrincipal, InjectedDeps
from services.gateway.http.own_health import own_health

router = APIRouter(prefix="/api", tags=["system"])


@router.get("")
@router.get("/")
async def root(deps: InjectedDeps) -> dict[str, Any]:
    """Return the name of the service and its own health."""
    return {"name": "ArtMancer", **own_health(ready=deps.ready)}


@router.get("/health")
async def health(deps: InjectedDeps) -> dict[str, Any]:
    """Return the gateway's own health without a request to other services."""
    return own_health(ready=deps.ready)


@router.get("/system/health")
async def system_health(deps: InjectedDeps, principal: CurrentPrincipal) -> dict[str, Any]:
    """Return the health of all services and of the broker's streams. Details require a key of the scope `admin`."""
    return await deps.system.report(full=principal.may(KeyScope.ADMIN))


@router.post("/clear-cache")
async def clear_cache() -> Acknowledged:
    """Do nothing: cached data is named by its content and expires by itself."""
    return Acknowledged(message="Cached data is named by its content and expires by itself; nothing needs clearing.")
