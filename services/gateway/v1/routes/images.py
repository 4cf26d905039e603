"""/v1/images and /v1/extractions: upload and download images, cut an object out of one, estimate its light."""

from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from services.gateway.access.forwarded import public_path
from services.gateway.core.uploads import is_sha256
from services.gateway.deps import CurrentOwner, Deps, InjectedDeps
from services.gateway.http.image_response import image_headers, image_response
from services.gateway.http.json_body import json_body
from services.gateway.v1.job_views import image_of
from services.gateway.v1.openapi_responses import (
    BYTES,
    UPLOADS,
    can_fail,
    function_name,
    image_bytes,
    json_can_fail,
    json_request,
)
from services.gateway.v1.results.renditions import Wanted
from services.gateway.v1.routes.rendition_queries import WantedImage
from services.gateway.v1.schemas import ExtractionRequest, Image, WhiteBalanceEstimate
from services.gateway.v1.submissions import require
from shared import rpc, subjects
from shared.errors import BadInput, BrokerUnavailable, ImageNotFound
from shared.messages import ExtractRequest, ImageRef, ImageReply, LightReply, LightRequest

router = APIRouter(prefix="/v1", tags=["images"], generate_unique_id_function=function_name)
ImageName = Annotated[str, Path(description="The SHA-256 of the image's bytes.")]
ExtractionBody = Annotated[ExtractionRequest, Depends(json_body(ExtractionRequest))]
_TYPE_OF_MASKS = "image/png"  # no camera writes it
_FORM: dict[str, Any] = {"type": "object", "required": ["file"], "properties": {"file": BYTES}}
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **UPLOADS,
            "application/octet-stream": {"schema": BYTES},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}


@router.post(
    "/images",
    status_code=201,
    response_description="The image is stored.",
    openapi_extra=_UPLOAD,
    responses={
        200: {"model": Image, "description": "The image was stored before."},
        **can_fail(400, 413, 415, 422, 429, 503),
    },
)
async def upload_image(request: Request, response: Response, deps: InjectedDeps, owner: CurrentOwner) -> Image:
    """Store an image, sent as the body or as the form field `file`."""
    upload = await deps.uploads.read_bytes(await _read_image(request), "Image")
    is_new = await deps.uploads.store_new(owner, upload)
    if is_new and upload.ref.content_type != _TYPE_OF_MASKS:
        with suppress(BrokerUnavailable):  # the photo is stored, and its first click is only slower
            await deps.bus.emit(subjects.PHOTOS, upload.ref.model_dump_json(exclude_none=True).encode())
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = public_path(f"/v1/images/{upload.ref.sha256}")
    return image_of(upload.ref)


@router.head(
    "/images/{sha256}",
    response_class=Response,
    responses={
        200: {"description": "The image is stored."},
        404: {"description": "The image is not stored; upload it."},
        **can_fail(413, 422, 503),
    },
)
async def look_for_image(sha256: ImageName, deps: InjectedDeps, owner: CurrentOwner, wanted: WantedImage) -> Response:
    """Check whether an image or a result is stored with all its bytes, which can save an upload."""
    ref = await _require_image(deps, owner, sha256, wanted)
    headers = {**image_headers(ref), "Content-Type": ref.content_type, "Content-Length": str(ref.size_bytes)}
    return Response(headers=headers)


@router.get(
    "/images/{sha256}",
    response_class=Response,
    responses=image_bytes(*UPLOADS) | can_fail(404, 413, 416, 422, 503),
)
async def download_image(
    sha256: ImageName, request: Request, deps: InjectedDeps, owner: CurrentOwner, wanted: WantedImage
) -> Response:
    """Download an upload, a found mask or a result, byte for byte, or upright in a format that a browser shows."""
    ref = await _require_image(deps, owner, sha256, wanted)
    return await image_response(deps.images, ref, request.headers)


@router.delete(
    "/images/{sha256}",
    status_code=204,
    response_class=Response,
    response_description="The image is no longer yours.",
    responses=can_fail(404, 409, 503),
)
async def delete_image(sha256: ImageName, deps: InjectedDeps, owner: CurrentOwner) -> Response:
    """Delete an uploaded image or a found mask. A job that has not ended keeps its images until it ends.

    A result goes with its job.
    """
    if not is_sha256(sha256):
        raise ImageNotFound
    await deps.stores.remove_image(owner, sha256)
    deps.uploads.forget(owner, sha256)
    return Response(status_code=204)


@router.get(
    "/images/{sha256}/white-balance/estimate",
    response_description="What a white balance at full strength would do.",
    responses=can_fail(404, 413, 422, 429, 503),
)
async def estimate_white_balance(sha256: ImageName, deps: InjectedDeps, owner: CurrentOwner) -> WhiteBalanceEstimate:
    """Estimate the white balance of an image or of a result, for a live preview: nothing is made or stored."""
    image = await deps.uploads.find_with_results(owner, sha256)
    if image is None:
        raise ImageNotFound
    timeout_s = deps.settings.image_timeout_s
    request = LightRequest(image=image)
    reply = await rpc.call(deps.bus, subjects.IMG_ESTIMATE_LIGHT, request, LightReply, timeout_s=timeout_s)
    return WhiteBalanceEstimate(gains=reply.gains)


@router.post(
    "/extractions",
    status_code=201,
    response_description="The cut-out object is stored.",
    openapi_extra=json_request(ExtractionRequest),
    responses=json_can_fail(413, 422, 429, 503),
)
async def extract_object(
    extraction: ExtractionBody, response: Response, deps: InjectedDeps, owner: CurrentOwner
) -> Image:
    """Cut the masked object out, on a transparent ground. In a square it can be the reference of an insertion."""
    await require(deps.uploads, owner, image=extraction.image, mask=extraction.mask)
    in_place = True if extraction.frame == "photo" else None
    request = ExtractRequest(image=extraction.image, mask=extraction.mask, transparent=True, in_place=in_place)
    reply = await rpc.call(deps.bus, subjects.IMG_EXTRACT, request, ImageReply, timeout_s=deps.settings.image_timeout_s)
    extracted = await deps.uploads.adopt(owner, reply.png)
    response.headers["Location"] = public_path(f"/v1/images/{extracted.ref.sha256}")
    return image_of(extracted.ref)


async def _require_image(deps: Deps, owner: str, sha256: str, wanted: Wanted | None) -> ImageRef:
    ref = await deps.uploads.find_with_results(owner, sha256)
    if ref is None:
        raise ImageNotFound
    return ref if wanted is None else (await deps.renditions.of_image(ref, wanted)).image


async def _read_image(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        async with request.form(max_files=1, max_fields=8) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise BadInput("The form has no file in its field file.")
            return await file.read()
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        return b"".join([chunk async for chunk in request.stream()])
    raise HTTPException(
        415, "Send the image with the content type image/* or application/octet-stream, or as the file of a form."
    )
