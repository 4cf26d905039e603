"""/v1/masks: segment an object from points, a box, strokes or a rough mask."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.requests import ClientDisconnect

from services.gateway.deps import CurrentOwner, Deps, InjectedDeps
from services.gateway.http.disconnect import cancel_on_disconnect
from services.gateway.http.image_response import image_headers
from services.gateway.http.json_body import json_body
from services.gateway.v1.mask_requests import SUPERSEDED, mask_request, outline_request
from services.gateway.v1.mask_schemas import FoundMask, FoundMasks, MaskPreview, MaskQuery, PreviewQuery
from services.gateway.v1.openapi_responses import BYTES, Responses, function_name, json_can_fail, json_request
from services.gateway.v1.submissions import require
from shared import rpc, subjects
from shared.messages import Mask, MaskReply, MaskRequest, OutlineReply

router = APIRouter(prefix="/v1/masks", tags=["masks"], generate_unique_id_function=function_name)
PreviewBody = Annotated[PreviewQuery, Depends(json_body(PreviewQuery))]
QueryBody = Annotated[MaskQuery, Depends(json_body(MaskQuery))]
_FOUND: Responses = {
    200: {
        "description": "The masks. With `Accept: image/png` the body is the best mask.",
        "content": {"image/png": {"schema": BYTES}},
        "headers": {
            "X-Score": {"description": "The PNG's score, 0 to 1.", "schema": {"type": "number"}, "example": 0.93},
            "X-Engine": {"description": "The engine's name.", "schema": {"type": "string"}, "example": "grabcut"},
        },
    }
}


@router.post(
    "",
    openapi_extra=json_request(MaskQuery),
    response_model=FoundMasks,
    responses={**_FOUND, **json_can_fail(413, 422, 429, 503)},
)
async def find_masks(
    query: QueryBody,
    request: Request,
    deps: InjectedDeps,
    owner: CurrentOwner,
    accept: Annotated[str, Header()] = "*/*",
) -> FoundMasks | Response:
    """Return masks of the image's size, best first. The search stops if the client disconnects."""
    await require(deps.uploads, owner, image=query.image, mask=query.mask, previous=query.previous)
    reply = await _segment(deps, request, mask_request(query))
    if "image/png" in accept and "application/json" not in accept:
        return await _png_response(deps, owner, reply)
    found = [await _adopt(deps, owner, mask) for mask in reply.masks]
    return FoundMasks(**found[0].model_dump(), engine=reply.engine, note=reply.note, candidates=found)


@router.post(
    "/preview",
    openapi_extra=json_request(PreviewQuery),
    responses=json_can_fail(413, 422, 429, 503),
)
async def preview_mask(query: PreviewBody, request: Request, deps: InjectedDeps, owner: CurrentOwner) -> MaskPreview:
    """Return the outline of the object that a click would select, without storing anything.

    It answers in tens of milliseconds from cached outputs of the engine's networks; a client that disconnects stops it.
    Of an owner's requests at the same time only the newest is worked on.
    """
    await require(deps.uploads, owner, image=query.image)
    message = outline_request(query)
    timeout_s = deps.settings.preview_timeout_s
    call = rpc.call(deps.bus, subjects.SEG_OUTLINE, message, OutlineReply, timeout_s=timeout_s)
    try:
        reply = await cancel_on_disconnect(request, deps.newest_previews.run(owner, call))
    except ClientDisconnect:
        await deps.bus.emit(subjects.seg_cancel(message.request_id))
        raise
    if reply is None:
        await deps.bus.emit(subjects.seg_cancel(message.request_id))
        return SUPERSEDED
    return MaskPreview(**reply.model_dump(exclude={"v"}))


async def _segment(deps: Deps, request: Request, message: MaskRequest) -> MaskReply:
    call = rpc.call(deps.bus, subjects.SEG_MASK, message, MaskReply, timeout_s=deps.settings.mask_timeout_s)
    try:
        return await cancel_on_disconnect(request, call)
    except ClientDisconnect:
        await deps.bus.emit(subjects.seg_cancel(message.request_id))
        raise


async def _adopt(deps: Deps, owner: str, mask: Mask) -> FoundMask:
    sha256 = (await deps.uploads.adopt(owner, mask.png)).ref.sha256
    return FoundMask(sha256=sha256, score=mask.score, box=mask.box, area=mask.area)


async def _png_response(deps: Deps, owner: str, reply: MaskReply) -> Response:
    mask = await deps.uploads.adopt(owner, reply.masks[0].png)
    headers = {**image_headers(mask.ref), "X-Score": str(reply.masks[0].score), "X-Engine": reply.engine}
    return Response(mask.data, media_type="image/png", headers=headers)
