"""How the routes of /v1 describe to OpenAPI what they take, give and refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.gateway.error_responses import PROBLEM
from services.gateway.v1 import examples

if TYPE_CHECKING:
    from fastapi.routing import APIRoute
    from pydantic import BaseModel

Responses = dict[int | str, dict[str, Any]]
BYTES = {"type": "string", "format": "binary"}
_PICTURE_BYTES = {"image/*": {"schema": BYTES}}
PICTURE: Responses = {
    200: {"description": "The picture.", "content": _PICTURE_BYTES},
    206: {"description": "The range of it that was asked for.", "content": _PICTURE_BYTES},
    304: {"description": "You have it already."},
}


def by_name(route: APIRoute) -> str:
    """Name an operation as its function is named."""
    return route.name


def schema_of(model: type[BaseModel]) -> dict[str, str]:
    """Point at a model's schema; openapi.py puts it there."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def taking(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route whose body `json_body` reads."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema_of(model)}}}}


def can_fail(*statuses: int) -> Responses:
    """Return the failures among the `responses` of a route, each with an example."""
    return {status: _failure(status) for status in statuses}


def _failure(status: int) -> dict[str, Any]:
    title, code, sentence = examples.PROBLEMS[status]
    example = {"type": "about:blank", "title": title, "status": status, "detail": sentence, "code": code}
    return {
        "description": f"{title}.",
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
    }
