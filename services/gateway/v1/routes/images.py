"""/v1/images: pictures, stored once under the SHA-256 of their bytes; and what can be cut out of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from services.gateway.deps import CurrentOwner, Deps, InjectedDeps
from services.gateway.http.image_response import image_headers, image_response
from services.gateway.http.json_body import json_body
from services.gateway.v1.openapi_responses import BYTES, PICTURE, by_name, can_fail, taking
from services.gateway.v1.schemas import ExtractionRequest, Picture
from services.gateway.v1.submissions import require
from shared import rpc, subjects
from shared.errors import BadInput, ImageNotFound
from shared.messages import ExtractRequest, ImageRef, ImageReply

router = APIRouter(prefix="/v1", tags=["pictures"], generate_unique_id_function=by_name)
Name = Annotated[str, Path(description="The SHA-256 of the picture's bytes.")]
Cut = Annotated[ExtractionRequest, Depends(json_body(ExtractionRequest))]
_FORM: dict[str, Any] = {"type": "object", "required": ["file"], "properties": {"file": BYTES}}
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": BYTES},
            "application/octet-stream": {"schema": BYTES},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}


@router.post(
    "/images",
    status_code=201,
    response_description="It is stored.",
    openapi_extra=_UPLOAD,
    responses={
        200: {"model": Picture, "description": "It was there already."},
        **can_fail(400, 413, 415, 422, 429, 503),
    },
)
async def upload_image(request: Request, response: Response, deps: InjectedDeps, user: CurrentOwner) -> Picture:
    """Store a picture, sent as it is or as the file of a form."""
    picture = await deps.uploads.read_bytes(await _sent(request), "Image")
    known = await deps.uploads.known(user, picture.ref.sha256)
    await deps.uploads.store(user, picture)
    response.status_code = 200 if known else 201
    response.headers["Location"] = f"/v1/images/{picture.ref.sha256}"
    return Picture.of(picture.ref)


@router.head(
    "/images/{sha256}",
    response_class=Response,
    responses={200: {"description": "It is there."}, 404: {"description": "It is not; upload it."}, **can_fail(503)},
)
async def look_for_image(sha256: Name, deps: InjectedDeps, user: CurrentOwner) -> Response:
    """Tell whether a picture is there, which can spare an upload."""
    ref = await _known(deps, user, sha256)
    headers = {**image_headers(ref), "Content-Type": ref.content_type, "Content-Length": str(ref.size_bytes)}
    return Response(headers=headers)


@router.get(
    "/images/{sha256}",
    response_class=Response,
    responses=PICTURE | can_fail(404, 416, 503),
)
async def download_image(sha256: Name, request: Request, deps: InjectedDeps, user: CurrentOwner) -> Response:
    """Give a picture back as it was sent, or a mask as it was found."""
    return await image_response(deps.images, await _known(deps, user, sha256), request.headers)


@router.post(
    "/extractions",
    status_code=201,
    response_description="It is cut out and stored.",
    openapi_extra=taking(ExtractionRequest),
    responses=can_fail(413, 422, 429, 503),
)
async def extract_object(order: Cut, response: Response, deps: InjectedDeps, user: CurrentOwner) -> Picture:
    """Cut the masked object out and fit it into a white square, which can be the reference of an insertion."""
    await require(deps.uploads, user, image=order.image, mask=order.mask)
    question = ExtractRequest(image=order.image, mask=order.mask)
    reply = await rpc.call(
        deps.bus, subjects.IMG_EXTRACT, question, ImageReply, timeout_s=deps.settings.image_timeout_s
    )
    cut_out = await deps.uploads.adopt(user, reply.png)
    response.headers["Location"] = f"/v1/images/{cut_out.ref.sha256}"
    return Picture.of(cut_out.ref)


async def _known(deps: Deps, user: str, sha256: str) -> ImageRef:
    ref = await deps.uploads.known(user, sha256)
    if ref is None:
        raise ImageNotFound
    return ref


async def _sent(request: Request) -> bytes:
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=8) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise BadInput("The form has no file in its field file.")
            return await file.read()
    if kind.startswith("image/") or kind == "application/octet-stream":
        return b"".join([chunk async for chunk in request.stream()])
    raise HTTPException(415, "Send a picture, as image/* or application/octet-stream, or as the file of a form.")
