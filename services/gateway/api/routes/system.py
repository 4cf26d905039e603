"""/api itself: how the system is."""

from typing import Any

from fastapi import APIRouter

from services.gateway.access.principal import KeyScope
from services.gateway.api import schemas
from services.gateway.deps import CurrentPrincipal, InjectedDeps
from services.gateway.http.own_health import own_health

router = APIRouter(prefix="/api", tags=["system"])


@router.get("")
@router.get("/")
async def root(deps: InjectedDeps) -> dict[str, Any]:
    """Say what this is."""
    return {"name": "ArtMancer", **own_health(ready=deps.ready)}


@router.get("/health")
async def health(deps: InjectedDeps) -> dict[str, Any]:
    """Say how the gateway is, without asking anybody."""
    return own_health(ready=deps.ready)


@router.get("/system/health")
async def system_health(deps: InjectedDeps, principal: CurrentPrincipal) -> dict[str, Any]:
    """Ask every service how it is, all at once; `streams` tells what the broker keeps less safely than declared."""
    return await (deps.system.in_full() if principal.may(KeyScope.ADMIN) else deps.system.in_short())


@router.post("/clear-cache")
async def clear_cache() -> schemas.Done:
    """Nothing to do, and it says so: what is cached is named by its content and expires by itself."""
    return schemas.Done(message="Caches here are keyed by content and expire by themselves; nothing needs clearing.")
