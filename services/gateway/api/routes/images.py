"""/api/image-utils: cut objects out, preview shadows and correct the white balance."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, File, Form, Response, UploadFile
from pydantic import FiniteFloat

from services.gateway.api.schemas import (
    ExtractedObject,
    ExtractObjectRequest,
    ShadowPreview,
    ShadowPreviewRequest,
    WhiteBalanced,
    WhiteBalanceParameters,
)
from services.gateway.core.pieces import Pictures
from services.gateway.deps import CurrentOwner, Deps, InjectedDeps
from services.gateway.http.json_body import json_body, openapi_body
from shared import rpc, subjects
from shared.errors import ArtMancerError
from shared.messages import ExtractRequest, ImageRef, ImageReply, Message, ShadowRequest, WhiteBalanceRequest

router = APIRouter(prefix="/api/image-utils", tags=["images"])
ExtractBody = Annotated[ExtractObjectRequest, Depends(json_body(ExtractObjectRequest))]
ShadowBody = Annotated[ShadowPreviewRequest, Depends(json_body(ShadowPreviewRequest))]
Adjustment = Annotated[FiniteFloat, Form(ge=-100, le=100)]


@router.post("/extract-object", openapi_extra=openapi_body(ExtractObjectRequest), response_model=ExtractedObject)
async def extract_object(body: ExtractBody, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Cut the masked object out and centre it on a white square."""
    image = await deps.uploads.read(body.image, "Image")
    mask = await deps.uploads.read(body.mask, "Mask")
    request = ExtractRequest(image=await deps.uploads.store(owner, image), mask=await deps.uploads.store(owner, mask))
    pictures = Pictures(deps.images)
    extracted = pictures.place(await _call(deps, subjects.IMG_EXTRACT, request))
    return await pictures.answer(ExtractedObject(extracted_image=extracted))


@router.post("/add-shadow-preview", openapi_extra=openapi_body(ShadowPreviewRequest), response_model=ShadowPreview)
async def add_shadow_preview(body: ShadowBody, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Return an extracted object with a shadow. Errors have status 200."""
    pictures = Pictures(deps.images)
    try:
        preview = pictures.place(await _shadow_preview(deps, owner, body))
        return await pictures.answer(ShadowPreview(success=True, preview_image=preview))
    except ArtMancerError as error:
        return await pictures.answer(ShadowPreview(success=False, error=error.message))


@router.post("/white-balance", response_model=WhiteBalanced)
async def white_balance(
    file: Annotated[UploadFile, File()],
    deps: InjectedDeps,
    owner: CurrentOwner,
    method: Annotated[Literal["auto", "manual", "ai"], Form()] = "auto",
    temperature: Adjustment = 0.0,
    tint: Adjustment = 0.0,
) -> Response:
    """Remove the colour cast. The method `ai` is the same as `auto`."""
    original = await deps.uploads.read_bytes(await file.read(), "Image")
    image, is_manual = await deps.uploads.store(owner, original), method == "manual"
    request = WhiteBalanceRequest(image=image)
    if is_manual:
        request = WhiteBalanceRequest(image=image, method="manual", temperature=temperature, tint=tint)
    pictures = Pictures(deps.images)
    response = WhiteBalanced(
        original_image=pictures.place(original.ref),
        corrected_image=pictures.place(await _call(deps, subjects.IMG_WHITE_BALANCE, request)),
        method_used=request.method,
        parameters=WhiteBalanceParameters(temperature=temperature, tint=tint) if is_manual else None,
    )
    return await pictures.answer(response)


async def _shadow_preview(deps: Deps, owner: str, body: ShadowPreviewRequest) -> ImageRef:
    image = await deps.uploads.read(body.extracted_image, "Extracted image")
    mask = await deps.uploads.read(body.mask, "Mask") if body.mask else None
    request = ShadowRequest(
        image=await deps.uploads.store(owner, image),
        mask=mask and await deps.uploads.store(owner, mask),
        offset_x_px=body.shadow_offset_x,
        offset_y_px=body.shadow_offset_y,
        opacity=body.shadow_opacity,
        blur_px=body.blur_radius,
    )
    return await _call(deps, subjects.IMG_SHADOW, request)


async def _call(deps: Deps, subject: str, request: Message) -> ImageRef:
    """Call the image service and return the resulting image."""
    reply = await rpc.call(deps.bus, subject, request, ImageReply, timeout_s=deps.settings.image_timeout_s)
    return reply.png
