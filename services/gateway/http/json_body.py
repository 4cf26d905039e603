"""Parses JSON bodies of up to 64 MiB once, from their bytes into the model.

FastAPI would run json.loads first and validate the result, at five times the cost. So routes depend on `json_body` and
describe the body to OpenAPI with `openapi_body`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002 (FastAPI reads the annotation)

from services.gateway.http.exception_handlers import validation_message
from shared.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

M = TypeVar("M", bound=BaseModel)
JSON_ONLY = "Send the body with the content type application/json."


def json_body(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """Return a FastAPI dependency that parses the request's body.

    It raises BadInput with one sentence, and HTTPException (415) for another content type.
    """

    async def read(request: Request) -> M:
        require_json(request)
        # Not request.body(), which keeps the bytes until the response is sent. The parser holds the GIL, so
        # a thread would gain nothing: 2 ms for 10 MB.
        raw = b"".join([chunk async for chunk in request.stream()])
        try:
            return model.model_validate_json(raw)
        except ValidationError as error:
            raise BadInput(validation_message(error.errors(include_input=False, include_url=False))) from None

    return read


def require_json(request: Request) -> None:
    """Raise HTTPException (415) unless the content type is application/json.

    A browser sends other types, and a body without one, for any web page without a CORS preflight.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, JSON_ONLY)


def openapi_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that depends on `json_body`."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
