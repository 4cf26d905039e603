"""Finds the requested format of a rendition in the query or in the header Accept."""

import re
from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from starlette.datastructures import Headers

from services.gateway.deps import CurrentPrincipal, InjectedDeps
from services.gateway.v1.results.renditions import Encoded, Format, Wanted
from shared.errors import BadInput

RESULT_TYPES = ("image/png", "image/jpeg", "image/webp", "image/avif", "image/tiff", "image/bmp")
"""The content types that a result can have, in the formats of all uploads that can be written."""
_BY_TYPE: dict[str, Encoded] = {
    "image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp", "image/avif": "avif",
}  # fmt: skip
_UNWANTED = re.compile(r"q=0(\.0{0,3})?", re.IGNORECASE)  # RFC 9110, 12.4.2
Quality = Annotated[
    int | None,
    Query(ge=1, le=100, description="1 to 100, for jpeg, webp and avif. Default: that of the upload, or a high one."),
]
Gps = Annotated[
    Literal["keep", "drop"] | None,
    Query(description="Whether the place stays in the metadata. Default: the server's setting; signed URLs drop it."),
]
_RESULT_FORMAT = (
    "The format, with the upload's metadata; `original` is that of the upload. Without it, and without a header "
    "`Accept` that names exactly one of the types, the PNG is sent as it is stored."
)


async def _want_result(
    request: Request,
    deps: InjectedDeps,
    principal: CurrentPrincipal,
    wanted: Annotated[Format | None, Query(alias="format", description=_RESULT_FORMAT)] = None,
    quality: Quality = None,
    gps: Gps = None,
) -> Wanted | None:
    # A signed URL opens the format that was signed, and no other one.
    chosen = wanted or (None if principal.signed else accepted_format(request.headers))
    return _wanted_rendition(deps, principal, chosen, quality, gps)


async def _want_image(
    deps: InjectedDeps,
    principal: CurrentPrincipal,
    wanted: Annotated[
        Encoded | None,
        Query(alias="format", description="Another format, upright. Without it, the bytes as they came."),
    ] = None,
    quality: Quality = None,
    gps: Gps = None,
) -> Wanted | None:
    return _wanted_rendition(deps, principal, wanted, quality, gps)


WantedResult = Annotated[Wanted | None, Depends(_want_result)]
"""The rendition of a result that the request wants; None: the stored PNG."""
WantedImage = Annotated[Wanted | None, Depends(_want_image)]
"""The rendition of an upload that the request wants; None: its bytes."""


def accepted_format(headers: Headers) -> Encoded | None:
    """Return the format of the one type that Accept names, without a wildcard; None for any other header.

    An `<img>` names several types and must not get a picture with losses.
    """
    sent = headers.getlist("accept")
    name, *parameters = sent[0].split(";") if len(sent) == 1 else ("",)
    if any(_UNWANTED.fullmatch(parameter.strip()) for parameter in parameters):
        return None
    return _BY_TYPE.get(name.strip().lower())


def _wanted_rendition(
    deps: InjectedDeps, principal: CurrentPrincipal, chosen: Format | None, quality: int | None, gps: str | None
) -> Wanted | None:
    if chosen is None:
        if quality is not None:
            raise BadInput("The query has a quality, but no format; add format=jpeg, webp or avif.")
        return None
    default = "drop" if principal.signed else deps.settings.gps
    return Wanted(chosen, quality, gps=(gps or default) == "keep")
