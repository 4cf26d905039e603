"""/v1/openapi.json: the description of all other routes of /v1. The page /v1/docs shows it."""

import asyncio
import json
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Response

from services.gateway.access.forwarded import public_path
from services.gateway.v1.openapi import build_document
from services.gateway.v1.routes import events, image_edits, images, jobs, masks, signed_urls, system, webhooks

SNAPSHOT = Path(__file__).parents[4] / "docs" / "openapi-v1.json"
router = APIRouter(prefix="/v1", include_in_schema=False)
ROUTERS = tuple(module.router for module in (images, image_edits, masks, jobs, events, webhooks, signed_urls, system))


@router.get("/openapi.json")
async def openapi() -> Response:
    """Return the OpenAPI document of /v1."""
    prefix = public_path("")
    written = await asyncio.to_thread(document_below, prefix) if prefix else await asyncio.to_thread(document)
    return Response(written, media_type="application/json")


@cache
def document() -> bytes:
    """Return the OpenAPI document of /v1 as JSON."""
    return build_document([route for described in ROUTERS for route in described.routes])


def document_below(prefix: str) -> bytes:
    """Return the document with the address below which a proxy publishes the server."""
    described = json.loads(document())
    described["servers"][0]["url"] = prefix
    return json.dumps(described, ensure_ascii=False).encode()
