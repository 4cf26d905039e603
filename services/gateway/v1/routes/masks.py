"""/v1/masks: find the thing that somebody points at."""

from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.requests import ClientDisconnect

from services.gateway.deps import CurrentOwner, Deps, InjectedDeps
from services.gateway.http.disconnect import cancel_on_disconnect
from services.gateway.http.image_response import image_headers
from services.gateway.http.json_body import json_body
from services.gateway.v1.openapi_responses import BYTES, Responses, by_name, can_fail, taking
from services.gateway.v1.schemas import FoundMask, FoundMasks, MaskQuery
from services.gateway.v1.submissions import require
from shared import rpc, subjects
from shared.messages import Mask, MaskReply, MaskRequest, Stroke

router = APIRouter(prefix="/v1/masks", tags=["masks"], generate_unique_id_function=by_name)
_FOUND: Responses = {
    200: {
        "description": "What was found; with `Accept: image/png` the best mask itself.",
        "content": {"image/png": {"schema": BYTES}},
        "headers": {
            "X-Score": {"description": "Of the PNG, 0 to 1.", "schema": {"type": "number"}, "example": 0.93},
            "X-Engine": {"description": "What found it.", "schema": {"type": "string"}, "example": "grabcut"},
        },
    }
}


@router.post(
    "",
    openapi_extra=taking(MaskQuery),
    response_model=FoundMasks,
    responses={**_FOUND, **can_fail(413, 422, 429, 503)},
)
async def find_masks(
    query: Annotated[MaskQuery, Depends(json_body(MaskQuery))],
    request: Request,
    deps: InjectedDeps,
    user: CurrentOwner,
    accept: Annotated[str, Header()] = "*/*",
) -> FoundMasks | Response:
    """Answer with masks of the picture's size, best first; who hangs up needs none any more."""
    await require(deps.uploads, user, image=query.image, mask=query.mask)
    reply = await _ask(deps, request, _question(query))
    if "image/png" in accept and "application/json" not in accept:
        return await _png(deps, user, reply)
    found = [await _adopt(deps, user, mask) for mask in reply.masks]
    best = found[0]
    return FoundMasks(sha256=best.sha256, score=best.score, engine=reply.engine, note=reply.note, candidates=found)


def _question(query: MaskQuery) -> MaskRequest:
    return MaskRequest(
        request_id=uuid4().hex,
        image=query.image,
        engine=query.engine,
        points=query.points,
        box=query.box,
        strokes=[Stroke(**stroke.model_dump()) for stroke in query.strokes],
        mask=query.mask,
        auto=query.auto,
        grow_px=query.grow,
        feather_px=query.feather,
        candidates=query.candidates,
    )


async def _ask(deps: Deps, request: Request, question: MaskRequest) -> MaskReply:
    asking = rpc.call(deps.bus, subjects.SEG_MASK, question, MaskReply, timeout_s=deps.settings.mask_timeout_s)
    try:
        return await cancel_on_disconnect(request, asking)
    except ClientDisconnect:
        await deps.bus.emit(subjects.seg_cancel(question.request_id))
        raise


async def _adopt(deps: Deps, user: str, mask: Mask) -> FoundMask:
    return FoundMask(sha256=(await deps.uploads.adopt(user, mask.png)).ref.sha256, score=mask.score)


async def _png(deps: Deps, user: str, reply: MaskReply) -> Response:
    mask = await deps.uploads.adopt(user, reply.masks[0].png)
    headers = {**image_headers(mask.ref), "X-Score": str(reply.masks[0].score), "X-Engine": reply.engine}
    return Response(mask.data, media_type="image/png", headers=headers)
