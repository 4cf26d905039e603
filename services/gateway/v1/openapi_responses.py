"""The parts of the OpenAPI document that the routes of /v1 share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.gateway.error_responses import PROBLEM
from services.gateway.http.json_body import JSON_ONLY
from services.gateway.v1 import examples
from shared.image_formats import CONTENT_TYPES

if TYPE_CHECKING:
    from fastapi.routing import APIRoute
    from pydantic import BaseModel

Responses = dict[int | str, dict[str, Any]]
BYTES = {"type": "string", "format": "binary"}
UPLOADS = {media_type: {"schema": BYTES} for media_type in CONTENT_TYPES.values()}
"""The bodies of images in all formats that are read."""


def image_bytes(*media_types: str) -> Responses:
    """Return the responses of a route that serves an image: whole, a range of it, or nothing new."""
    content = {media_type: {"schema": BYTES} for media_type in media_types}
    return {
        200: {"description": "The image.", "content": content},
        206: {"description": "The requested byte range of the image.", "content": content},
        304: {"description": "The client's copy is current."},
    }


def function_name(route: APIRoute) -> str:
    """Return the name of the route's function, for use as the operation id."""
    return route.name


def json_request(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads its body with `json_body`."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def can_fail(*statuses: int) -> Responses:
    """Return the error responses of a route, each with an example."""
    return {status: describe_error(status) for status in statuses}


def json_can_fail(*statuses: int) -> Responses:
    """Return the error responses of a route that reads its body with `json_body`."""
    return {**can_fail(*statuses), 415: describe_error(415, JSON_ONLY)}


def describe_error(status: int, detail: str = "") -> dict[str, Any]:
    """Return one error response with an example; `detail` is its sentence, by default the usual one."""
    title, code, sentence = examples.PROBLEMS[status]
    example = {"type": "about:blank", "title": title, "status": status, "detail": detail or sentence, "code": code}
    return {
        "description": f"{title}.",
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
    }
