"""JSON bodies of up to 64 MiB, parsed once, straight from their bytes into the model.

FastAPI would run json.loads first and validate the result, at five times the cost; so the routes depend on `json_body`
and tell OpenAPI with `openapi_body`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request  # noqa: TC002 (FastAPI reads the annotation)

from services.gateway.http.exception_handlers import validation_message
from shared.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

M = TypeVar("M", bound=BaseModel)


def json_body(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """Make the dependency that reads a request's body as this model. It raises BadInput with one sentence."""

    async def read(request: Request) -> M:
        # Not request.body(), which keeps the bytes until the answer is out. The parser holds the interpreter lock, so
        # a thread would gain nothing: 2 ms for 10 MB.
        raw = b"".join([chunk async for chunk in request.stream()])
        try:
            return model.model_validate_json(raw)
        except ValidationError as error:
            raise BadInput(validation_message(error.errors(include_input=False, include_url=False))) from None

    return read


def openapi_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return what a route passes as `openapi_extra` for a body that `json_body` reads."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
