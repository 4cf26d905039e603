"""/api/smart-mask: find the thing that somebody points at."""

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


@router.post("", openapi_extra=openapi_body(SmartMaskRequest), response_model=SmartMask)
async def smart_mask(
    ask: Annotated[SmartMaskRequest, Depends(json_body(SmartMaskRequest))], deps: InjectedDeps, user: CurrentOwner
) -> Response:
    """Answer with a mask of the picture's size."""
    request = await mask_request(deps, user, ask)
    mask = await _find(deps, request)
    answer = SmartMask(mask_base64=mask, image_id=request.image, request_id=request.request_id)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post("/detect", openapi_extra=openapi_body(DetectRequest))
async def detect(
    ask: Annotated[DetectRequest, Depends(json_body(DetectRequest))], deps: InjectedDeps, user: CurrentOwner
) -> Detected:
    """Answer as older clients expect it: failures with status 200."""
    try:
        request = await mask_request(deps, user, SmartMaskRequest(**ask.model_dump()))
        return Detected(success=True, mask=await _find(deps, request))
    except ArtMancerError as error:
        return Detected(success=False, error=error.message)


@router.post("/cancel/{request_id}")
async def cancel(request_id: str, deps: InjectedDeps, user: CurrentOwner) -> MaskCancelled:
    """Tell every segmentation replica to drop the request; whether one has it, nobody knows."""
    with suppress(ArtMancerError):
        if deps.ownership.owns_request(user, request_id):
            await deps.bus.emit(subjects.seg_cancel(request_id))
    return MaskCancelled(request_id=request_id)


async def _find(deps: Deps, request: MaskRequest) -> str:
    reply = await rpc.call(deps.bus, subjects.SEG_MASK, request, MaskReply, timeout_s=deps.settings.mask_timeout_s)
    png = await deps.images.get("cache", reply.masks[0].png.sha256)
    return pybase64.b64encode(png).decode()
