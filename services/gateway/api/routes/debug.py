"""/api/debug: what edits were made from, for who asked for that with the edit."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, ValidationError

from services.gateway.core import debug_sessions
from services.gateway.deps import CurrentOwner, Deps, InjectedDeps
from shared.errors import BadInput, NotFound
from shared.messages import DebugSession

router = APIRouter(prefix="/api/debug", tags=["debug"])


class CleanUp(BaseModel):
    """What the deployed client's gateway sends as a body; its own contract is a query."""

    keep_last_n: int = Field(default=50, ge=0)


@router.get("/sessions")
async def sessions(deps: InjectedDeps, user: CurrentOwner) -> dict[str, Any]:
    """List the sessions, newest first."""
    found = await debug_sessions.every(deps.bus, user)
    return {"enabled": True, "sessions": [_summary(session) for session in found], "total": len(found)}


@router.get("/sessions/{name}")
async def details(name: str, deps: InjectedDeps, user: CurrentOwner) -> dict[str, Any]:
    """Tell what there is of a session."""
    session = await _session(deps, user, name)
    return {
        "session_name": session.name,
        "metadata": debug_sessions.metadata(session),
        "lora_log": "",
        "image_files": [shot.file for shot in debug_sessions.shots(session)],
    }


@router.get("/sessions/{name}/images/{file}", response_class=Response)
async def image(name: str, file: str, deps: InjectedDeps, user: CurrentOwner) -> Response:
    """Give one picture."""
    for shot in debug_sessions.shots(await _session(deps, user, name)):
        if shot.file == file:
            return Response(await deps.images.get(shot.bucket, shot.sha256), media_type="image/png")
    raise NotFound("This session has no such picture.")


@router.get("/sessions/{name}/download", response_class=Response)
async def download(name: str, deps: InjectedDeps, user: CurrentOwner) -> Response:
    """Give everything in one archive."""
    session = await _session(deps, user, name)
    pictures = await debug_sessions.developed(deps.images, session)
    return zipped(debug_sessions.archive(pictures, debug_sessions.metadata(session)), session.name)


@router.get("/status")
async def status(deps: InjectedDeps, user: CurrentOwner) -> dict[str, Any]:
    """Tell how much there is."""
    found = await debug_sessions.every(deps.bus, user)
    size = await _size_bytes(deps, {image.sha256 for session in found for image in session.images})
    return {
        "enabled": True,
        "base_dir": "object store",
        "total_sessions": len(found),
        "total_size_mb": round(size / 1024**2, 2),
    }


@router.post("/cleanup")
async def cleanup(
    request: Request, deps: InjectedDeps, user: CurrentOwner, keep_last_n: Annotated[int | None, Query(ge=0)] = None
) -> dict[str, Any]:
    """Remove all sessions but the newest."""
    keep = await _asked(request) if keep_last_n is None else keep_last_n
    deleted = await debug_sessions.clean_up(deps.bus, user, keep)
    return {"enabled": True, "deleted": deleted, "kept": len(await debug_sessions.every(deps.bus, user))}


def zipped(archive: bytes, name: str) -> Response:
    """Answer with an archive to be saved under a name."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return Response(archive, media_type="application/zip", headers=headers)


async def _session(deps: Deps, user: str, name: str) -> DebugSession:
    session = await debug_sessions.find(deps.bus, user, name)
    if session is None:
        raise NotFound("This debug session is unknown or has expired.")
    return session


async def _asked(request: Request) -> int:
    try:
        return CleanUp.model_validate_json(await request.body() or b"{}").keep_last_n
    except ValidationError:
        raise BadInput("The field keep_last_n is not valid: it is a number of sessions.") from None


async def _size_bytes(deps: Deps, names: set[str]) -> int:
    found = await asyncio.gather(*(deps.images.head("debug", sha256) for sha256 in names))
    return sum(picture.size_bytes for picture in found if picture)


def _summary(session: DebugSession) -> dict[str, Any]:
    return {
        "session_name": session.name,
        "created_at": datetime.fromtimestamp(session.created_at, UTC).isoformat(),
        "success": True,
        "task_type": session.submit.task.value,
        "generation_time": session.duration_ms / 1000,
        "num_images": len(debug_sessions.shots(session)),
    }
