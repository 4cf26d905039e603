"""/api/image-utils: small services around a picture."""

from typing import Annotated, Literal

import pybase64
from fastapi import APIRouter, Depends, File, Form, Response, UploadFile
from pydantic import BaseModel, FiniteFloat

from services.gateway.api.schemas import (
    Extracted,
    ExtractObjectRequest,
    Knobs,
    ShadowPreview,
    ShadowPreviewRequest,
    WhiteBalanced,
)
from services.gateway.deps import CurrentOwner, Deps, InjectedDeps
from services.gateway.http.json_body import json_body, openapi_body
from shared import rpc, subjects
from shared.errors import ArtMancerError
from shared.messages import ExtractRequest, ImageReply, Message, ShadowRequest, WhiteBalanceRequest

router = APIRouter(prefix="/api/image-utils", tags=["pictures"])
Knob = Annotated[FiniteFloat, Form(ge=-100, le=100)]


@router.post("/extract-object", openapi_extra=openapi_body(ExtractObjectRequest), response_model=Extracted)
async def extract_object(
    ask: Annotated[ExtractObjectRequest, Depends(json_body(ExtractObjectRequest))],
    deps: InjectedDeps,
    user: CurrentOwner,
) -> Response:
    """Cut the masked object out and fit it into a white square."""
    image = await deps.uploads.read(ask.image, "Image")
    mask = await deps.uploads.read(ask.mask, "Mask")
    request = ExtractRequest(image=await deps.uploads.store(user, image), mask=await deps.uploads.store(user, mask))
    return _json(Extracted(extracted_image=await _made(deps, subjects.IMG_EXTRACT, request)))


@router.post("/add-shadow-preview", openapi_extra=openapi_body(ShadowPreviewRequest))
async def add_shadow_preview(
    ask: Annotated[ShadowPreviewRequest, Depends(json_body(ShadowPreviewRequest))],
    deps: InjectedDeps,
    user: CurrentOwner,
) -> ShadowPreview:
    """Show an extracted object with a shadow; failures come with status 200."""
    try:
        return ShadowPreview(success=True, preview_image=await _shadow(deps, user, ask))
    except ArtMancerError as error:
        return ShadowPreview(success=False, error=error.message)


@router.post("/white-balance", response_model=WhiteBalanced)
async def white_balance(
    file: Annotated[UploadFile, File()],
    deps: InjectedDeps,
    user: CurrentOwner,
    method: Annotated[Literal["auto", "manual", "ai"], Form()] = "auto",
    temperature: Knob = 0.0,
    tint: Knob = 0.0,
) -> Response:
    """Take the colour cast out; `ai` is answered by the automatic method."""
    original = await deps.uploads.read_bytes(await file.read(), "Image")
    image, manual = await deps.uploads.store(user, original), method == "manual"
    request = WhiteBalanceRequest(image=image)
    if manual:
        request = WhiteBalanceRequest(image=image, method="manual", temperature=temperature, tint=tint)
    answer = WhiteBalanced(
        original_image=pybase64.b64encode(original.data).decode(),
        corrected_image=await _made(deps, subjects.IMG_WHITE_BALANCE, request),
        method_used=request.method,
        parameters=Knobs(temperature=temperature, tint=tint) if manual else None,
    )
    return _json(answer)


async def _shadow(deps: Deps, user: str, ask: ShadowPreviewRequest) -> str:
    image = await deps.uploads.read(ask.extracted_image, "Extracted image")
    mask = await deps.uploads.read(ask.mask, "Mask") if ask.mask else None
    request = ShadowRequest(
        image=await deps.uploads.store(user, image),
        mask=mask and await deps.uploads.store(user, mask),
        offset_x_px=ask.shadow_offset_x,
        offset_y_px=ask.shadow_offset_y,
        opacity=ask.shadow_opacity,
        blur_px=ask.blur_radius,
    )
    return await _made(deps, subjects.IMG_SHADOW, request)


async def _made(deps: Deps, subject: str, request: Message) -> str:
    """Have a picture made, and return it in base64."""
    reply = await rpc.call(deps.bus, subject, request, ImageReply, timeout_s=deps.settings.image_timeout_s)
    return pybase64.b64encode(await deps.images.get("cache", reply.png.sha256)).decode()


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")
