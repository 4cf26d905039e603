"""/v1/signed-urls: an address for something that cannot send a key."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends

from services.gateway.access.signed_urls import is_signable
from services.gateway.deps import CurrentPrincipal, InjectedDeps
from services.gateway.http.json_body import json_body
from services.gateway.v1.openapi_responses import by_name, can_fail, taking
from services.gateway.v1.schemas import SignedUrl, SignedUrlRequest
from shared.errors import BadInput

router = APIRouter(prefix="/v1/signed-urls", tags=["access"], generate_unique_id_function=by_name)


@router.post(
    "",
    status_code=201,
    response_description="It opens at once.",
    openapi_extra=taking(SignedUrlRequest),
    responses=can_fail(413, 422),
)
async def sign_url(
    order: Annotated[SignedUrlRequest, Depends(json_body(SignedUrlRequest))],
    deps: InjectedDeps,
    principal: CurrentPrincipal,
) -> SignedUrl:
    """Make an address that opens a picture or a stream of yours for some minutes, for an EventSource or an <img>."""
    if not is_signable(order.path):
        raise BadInput("The field path is the address neither of a picture nor of a stream of events.")
    if deps.authenticator is None:
        return SignedUrl(url=order.path, expires_at=None)
    url, expires = deps.authenticator.signer.sign(principal, order.path, order.lifetime_s)
    return SignedUrl(url=url, expires_at=datetime.fromtimestamp(expires, UTC))
