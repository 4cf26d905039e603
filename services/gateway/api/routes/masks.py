"""/api/smart-mask: segment an object."""

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from services.gateway.api.mask_requests import mask_request
from services.gateway.api.schemas import Detected, DetectRequest, MaskCancelled, SmartMask, SmartMaskRequest
from services.gateway.core.pieces import Pictures
from services.gateway.deps import CurrentOwner, Deps, InjectedDeps
from services.gateway.http.json_body import json_body, openapi_body
from shared import rpc, subjects
from shared.errors import ArtMancerError
from shared.messages import ImageRef, MaskReply, MaskRequest

router = APIRouter(prefix="/api/smart-mask", tags=["masks"])
SmartMaskBody = Annotated[SmartMaskRequest, Depends(json_body(SmartMaskRequest))]
DetectBody = Annotated[DetectRequest, Depends(json_body(DetectRequest))]


@router.post("", openapi_extra=openapi_body(SmartMaskRequest), response_model=SmartMask)
async def smart_mask(body: SmartMaskBody, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Return a mask of the image's size."""
    request = await mask_request(deps.uploads, deps.ownership, owner, body)
    mask, engine = await _segment(deps, request)
    pictures = Pictures(deps.images)
    response = SmartMask(
        mask_base64=pictures.place(mask), image_id=request.image, request_id=request.request_id, model_used=engine
    )
    return await pictures.answer(response)


@router.post("/detect", openapi_extra=openapi_body(DetectRequest), response_model=Detected)
async def detect(body: DetectBody, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Return a mask in the older format: errors have status 200."""
    pictures = Pictures(deps.images)
    try:
        request = await mask_request(deps.uploads, deps.ownership, owner, SmartMaskRequest(**body.model_dump()))
        mask, _ = await _segment(deps, request)
        return await pictures.answer(Detected(success=True, mask=pictures.place(mask)))
    except ArtMancerError as error:
        return await pictures.answer(Detected(success=False, error=error.message))


@router.post("/cancel/{request_id}")
async def cancel(request_id: str, deps: InjectedDeps, owner: CurrentOwner) -> MaskCancelled:
    """Send a cancellation to all segmentation replicas. The response is the same for an unknown request."""
    with suppress(ArtMancerError):
        if deps.ownership.owns_request(owner, request_id):
            await deps.bus.emit(subjects.seg_cancel(request_id))
    return MaskCancelled(request_id=request_id)


async def _segment(deps: Deps, request: MaskRequest) -> tuple[ImageRef, str]:
    """Return the best mask and the name of the engine that found it."""
    reply = await rpc.call(deps.bus, subjects.SEG_MASK, request, MaskReply, timeout_s=deps.settings.mask_timeout_s)
    return reply.masks[0].png, reply.engine
