"""/api/smart-mask: segment an object."""

from contextlib import suppress
from typing import Annotated

import pybase64
from fastapi import APIRouter, Depends, Response

from services.gateway.api.mask_requests import mask_request
from services.gateway.api.schemas import Detected, DetectRequest, MaskCancelled, SmartMask, SmartMaskRequest
from services.gateway.deps import CurrentOwner, Deps, InjectedDeps
from services.gateway.http.json_body import json_body, openapi_body
from shared import rpc, subjects
from shared.errors import ArtMancerError
from shared.messages import MaskReply, MaskRequest

router = APIRouter(prefix="/api/smart-mask", tags=["masks"])
SmartMaskBody = Annotated[SmartMaskRequest, Depends(json_body(SmartMaskRequest))]
DetectBody = Annotated[DetectRequest, Depends(json_body(DetectRequest))]


@router.post("", openapi_extra=openapi_body(SmartMaskRequest), response_model=SmartMask)
async def smart_mask(body: SmartMaskBody, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Return a mask of the image's size."""
    request = await mask_request(deps.uploads, deps.ownership, owner, body)
    mask, engine = await _segment(deps, request)
    response = SmartMask(mask_base64=mask, image_id=request.image, request_id=request.request_id, model_used=engine)
    return Response(response.model_dump_json(), media_type="application/json")


@router.post("/detect", openapi_extra=openapi_body(DetectRequest))
async def detect(body: DetectBody, deps: InjectedDeps, owner: CurrentOwner) -> Detected:
    """Return a mask in the older format: errors have status 200."""
    try:
        request = await mask_request(deps.uploads, deps.ownership, owner, SmartMaskRequest(**body.model_dump()))
        return Detected(success=True, mask=(await _segment(deps, request))[0])
    except ArtMancerError as error:
        return Detected(success=False, error=error.message)


@router.post("/cancel/{request_id}")
async def cancel(request_id: str, deps: InjectedDeps, owner: CurrentOwner) -> MaskCancelled:
    """Send a cancellation to all segmentation replicas. The response is the same for an unknown request."""
    with suppress(ArtMancerError):
        if deps.ownership.owns_request(owner, request_id):
            await deps.bus.emit(subjects.seg_cancel(request_id))
    return MaskCancelled(request_id=request_id)


async def _segment(deps: Deps, request: MaskRequest) -> tuple[str, str]:
    """Return the best mask in base64 and the name of the engine that found it."""
    reply = await rpc.call(deps.bus, subjects.SEG_MASK, request, MaskReply, timeout_s=deps.settings.mask_timeout_s)
    png = await deps.images.get("cache", reply.masks[0].png.sha256)
    return pybase64.b64encode(png).decode(), reply.engine
