"""/v1/images/edits: edits as OpenAI's clients send them."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from services.gateway.deps import CurrentPrincipal, InjectedDeps
from services.gateway.v1.image_edits import openapi
from services.gateway.v1.image_edits.edit import run_edit
from services.gateway.v1.image_edits.refusal import Refused
from services.gateway.v1.image_edits.schemas import EditedImages
from services.gateway.v1.openapi_responses import function_name

router = APIRouter(prefix="/v1/images", tags=["openai"], generate_unique_id_function=function_name)
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A text of your choice. The same edit with the same key is the same jobs, and a client that lost "
        "its connection gets their results. Without it, the jobs of such a client are cancelled.",
    ),
]


@router.post(
    "/edits",
    response_model=EditedImages,
    response_description="The edited images, in order.",
    openapi_extra=openapi.describe_request(),
    responses=openapi.describe_responses(),
)
async def edit_image(
    request: Request, deps: InjectedDeps, principal: CurrentPrincipal, key: IdempotencyKey = None
) -> Response:
    """Remove the masked object, or insert the object of a second image, as OpenAI's `POST /v1/images/edits`.

    Outside the mask not one pixel changes. A field that cannot be obeyed is refused.
    """
    try:
        return await run_edit(request, deps, principal, key)
    except Refused as refusal:
        return refusal.response()
