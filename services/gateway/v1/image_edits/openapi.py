"""The description of `POST /v1/images/edits` for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from services.gateway.error_responses import openai_error
from services.gateway.v1 import examples
from services.gateway.v1.image_edits.schemas import EditFields
from services.gateway.v1.openapi_responses import BYTES, Responses

_FILES: dict[str, Any] = {
    "image": {
        "type": "array",
        "items": BYTES,
        "minItems": 1,
        "maxItems": 2,
        "description": "The photo; for an insertion then the picture of the object. The name may also be `image[]`.",
    },
    "mask": {**BYTES, "description": "A picture of the photo's size; its fully transparent pixels are edited."},
}
_EVENTS = (
    'event: image_edit.partial_image\ndata: {"type":"image_edit.partial_image","b64_json":"/9j/4AAQ",'
    '"partial_image_index":0,"created_at":1772357401,"size":"600x400","quality":"auto","background":"auto",'
    '"output_format":"jpeg"}\n\n'
    'event: image_edit.completed\ndata: {"b64_json":"iVBORw0KGgo","type":"image_edit.completed",'
    '"created_at":1772357402,"size":"600x400","quality":"auto","background":"auto","output_format":"png",'
    '"usage":{"input_tokens":0,"input_tokens_details":{"image_tokens":0,"text_tokens":0},"output_tokens":0,'
    f'"total_tokens":0}},"job_id":"{examples.JOB}"}}\n\n'
)
_STATUSES = (400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504)
_OTHERS = {
    500: ("engine_failed", "The engine could not finish this job."),
    504: ("timeout", "The edit takes longer than 300 s."),
}


def describe_request() -> dict[str, Any]:
    """Return the `openapi_extra` of the route: the form with its files."""
    fields = EditFields.model_json_schema()["properties"]
    schema = {"type": "object", "required": ["image", "mask"], "properties": {**_FILES, **fields}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def describe_responses() -> Responses:
    """Return the responses of the route: a stream, and errors in the form of OpenAI's API."""
    stream = {"schema": {"type": "string"}, "example": _EVENTS}
    content = {"text/event-stream": stream}
    errors: Responses = {status: _describe_error(status) for status in _STATUSES}
    return {200: {"description": "The edited images, in order.", "content": content}, **errors}


def _describe_error(status: int) -> dict[str, Any]:
    code, sentence = _OTHERS[status] if status in _OTHERS else examples.PROBLEMS[status][1:]
    schema = {"$ref": "#/components/schemas/OpenAIError"}
    example = {"error": openai_error(status, sentence, code)}
    return {"description": sentence, "content": {"application/json": {"schema": schema, "example": example}}}
