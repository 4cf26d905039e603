"""/v1/signed-urls: sign a URL for a client that cannot send a key."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends

from services.gateway.access.forwarded import own_path, public_path
from services.gateway.access.signed_urls import drop_place, is_signable
from services.gateway.deps import CurrentPrincipal, InjectedDeps
from services.gateway.http.json_body import json_body
from services.gateway.v1.openapi_responses import function_name, json_can_fail, json_request
from services.gateway.v1.schemas import SignedUrl, SignedUrlRequest
from shared.errors import BadInput

router = APIRouter(prefix="/v1/signed-urls", tags=["access"], generate_unique_id_function=function_name)
RequestBody = Annotated[SignedUrlRequest, Depends(json_body(SignedUrlRequest))]


@router.post(
    "",
    status_code=201,
    response_description="The signed URL works at once.",
    openapi_extra=json_request(SignedUrlRequest),
    responses=json_can_fail(413, 422),
)
async def sign_url(request: RequestBody, deps: InjectedDeps, principal: CurrentPrincipal) -> SignedUrl:
    """Sign the URL of your image, result or event stream for some minutes, for an EventSource or an `<img>`.

    The path may have the query of a rendition: `format`, `quality`, `gps`. They are signed too.
    """
    path = own_path(request.path)
    if not is_signable(path):
        if is_signable(path.partition("?")[0]):
            raise BadInput("The query in the field path may have only format, quality and gps, each once.")
        raise BadInput("The field path must be the path of an image, a result or an event stream.")
    if deps.authenticator is None:
        return SignedUrl(url=public_path(drop_place(path)), expires_at=None)
    url, expires = deps.authenticator.signer.sign(principal, path, request.lifetime_s)
    return SignedUrl(url=public_path(url), expires_at=datetime.fromtimestamp(expires, UTC))
