"""/api/debug: the intermediate images of edits that were submitted with `enable_debug`."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from services.gateway.api.archives import zip_response
from services.gateway.api.schemas import CleanUpRequest
from services.gateway.core import debug_sessions
from services.gateway.deps import CurrentOwner, Deps, InjectedDeps
from services.gateway.http.image_response import whole_image
from services.gateway.http.json_body import require_json
from shared.errors import BadInput, NotFound
from shared.messages import DebugSession

router = APIRouter(prefix="/api/debug", tags=["debug"])


@router.get("/sessions")
async def sessions(deps: InjectedDeps, owner: CurrentOwner) -> dict[str, Any]:
    """List the sessions, newest first."""
    found = await debug_sessions.list_sessions(deps.bus, deps.ownership, owner)
    return {"enabled": True, "sessions": [_summary(session) for session in found], "total": len(found)}


@router.get("/sessions/{name}")
async def details(name: str, deps: InjectedDeps, owner: CurrentOwner) -> dict[str, Any]:
    """Return a session's metadata and file names."""
    session = await _find_session(deps, owner, name)
    return {
        "session_name": session.name,
        "metadata": debug_sessions.metadata_of(session),
        "lora_log": "",
        "image_files": [file.name for file in debug_sessions.files_of(session)],
    }


@router.get("/sessions/{name}/images/{file_name}", response_class=Response)
async def image(name: str, file_name: str, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Return one image of a session."""
    session = await _find_session(deps, owner, name)
    for file in debug_sessions.files_of(session):
        if file.name == file_name:
            return await whole_image(deps.images, await debug_sessions.find_image(deps.images, session, file), {})
    raise NotFound("This session has no such image.")


@router.get("/sessions/{name}/download", response_class=Response)
async def download(name: str, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Return a session's images and metadata in a ZIP archive."""
    session = await _find_session(deps, owner, name)
    refs = await debug_sessions.find_images(deps.images, session)
    images = {name: deps.images.stream(ref.bucket, ref.sha256) for name, ref in refs.items()}
    return await zip_response(session.name, images, debug_sessions.metadata_of(session))


@router.get("/status")
async def status(deps: InjectedDeps, owner: CurrentOwner) -> dict[str, Any]:
    """Return the number of sessions and their size."""
    found = await debug_sessions.list_sessions(deps.bus, deps.ownership, owner)
    size = await _size_bytes(deps, {image.sha256 for session in found for image in session.images})
    return {
        "enabled": True,
        "base_dir": "object store",
        "total_sessions": len(found),
        "total_size_mb": round(size / 1024**2, 2),
    }


@router.post("/cleanup")
async def cleanup(
    request: Request, deps: InjectedDeps, owner: CurrentOwner, keep_last_n: Annotated[int | None, Query(ge=0)] = None
) -> dict[str, Any]:
    """Delete all sessions but the newest `keep_last_n`, from the query or the body."""
    keep = await _keep_last_n(request) if keep_last_n is None else keep_last_n
    deleted = await debug_sessions.clean_up(deps.bus, deps.ownership, deps.stores, owner, keep)
    kept = await debug_sessions.list_sessions(deps.bus, deps.ownership, owner)
    return {"enabled": True, "deleted": deleted, "kept": len(kept)}


async def _find_session(deps: Deps, owner: str, name: str) -> DebugSession:
    session = await debug_sessions.find_session(deps.bus, deps.ownership, owner, name)
    if session is None:
        raise NotFound("This debug session is unknown or has expired.")
    return session


async def _keep_last_n(request: Request) -> int:
    if not (body := await request.body()):
        return CleanUpRequest().keep_last_n
    require_json(request)
    try:
        return CleanUpRequest.model_validate_json(body).keep_last_n
    except ValidationError:
        raise BadInput("The field keep_last_n must be a number of sessions.") from None


async def _size_bytes(deps: Deps, names: set[str]) -> int:
    found = await asyncio.gather(*(deps.images.head("debug", sha256) for sha256 in names))
    return sum(image.size_bytes for image in found if image)


def _summary(session: DebugSession) -> dict[str, Any]:
    return {
        "session_name": session.name,
        "created_at": datetime.fromtimestamp(session.created_at, UTC).isoformat(),
        "success": True,
        "task_type": session.submit.task.value,
        "generation_time": session.duration_ms / 1000,
        "num_images": len(debug_sessions.files_of(session)),
    }
