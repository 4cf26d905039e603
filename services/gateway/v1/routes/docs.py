"""/v1/openapi.json, which the page /v1/docs shows."""

import asyncio

from fastapi import APIRouter, Response

from services.gateway.v1.openapi import document

router = APIRouter(prefix="/v1", include_in_schema=False)


@router.get("/openapi.json")
async def openapi() -> Response:
    """Describe all of /v1."""
    return Response(await asyncio.to_thread(document), media_type="application/json")
