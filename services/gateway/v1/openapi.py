"""Builds the OpenAPI document of /v1 from its routes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from services.gateway.access.audit_log import HEADER, VALID_ID
from services.gateway.access.authorization import required_scope
from services.gateway.access.signed_urls import PARAMETER, is_signable
from services.gateway.v1.event_schemas import build_event_schemas
from services.gateway.v1.image_edits.schemas import OpenAIError
from services.gateway.v1.mask_schemas import MaskQuery, PreviewQuery
from services.gateway.v1.openapi_responses import can_fail
from services.gateway.v1.schemas import (
    ExtractionRequest,
    JobSubmission,
    Problem,
    Resource,
    SignedUrlRequest,
)
from services.gateway.v1.webhooks.schemas import (
    SENT_BODIES,
    WebhookRepetition,
    WebhookSubmission,
    describe_webhooks,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute

_NOT_SEEN_BY_FASTAPI = (
    ExtractionRequest,
    MaskQuery,
    PreviewQuery,
    JobSubmission,
    SignedUrlRequest,
    Problem,
    OpenAIError,
    *(WebhookSubmission, WebhookRepetition, *SENT_BODIES),
)
_PATH_VALUES = {"job_id": "x", "sha256": "0" * 64, "webhook": "x"}
_FASTAPI_ERRORS = ("HTTPValidationError", "ValidationError")
_SECURITY = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key. A server that only its own machine can reach may run without keys.",
    },
    "signature": {
        "type": "apiKey",
        "in": "query",
        "name": PARAMETER,
        "description": "The query key, expires and signature of a URL from /v1/signed-urls or a job's links.",
    },
}
_DESCRIPTION = """Edit photos: mark a region, then remove its content, insert an object, or correct the white balance.

Upload each image once and name it by the SHA-256 of its bytes. Errors are problem details (RFC 9457). A server without
keys also answers 421 to an unknown host name, and 403 to a change from a web page of another site."""
_SERVERS = [
    {"url": "/", "description": "The server of this document."},
    {"url": "http://localhost:8080", "description": "`make run` on this machine."},
]
_REQUEST_ID = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": f"An id of your choice for the server's logs, `{VALID_ID}`. The response has it, or a new one.",
}
_TAGS = [
    {"name": "images", "description": "Stored once, named by the SHA-256 of their bytes."},
    {"name": "masks", "description": "Regions of an image, found from points, boxes and strokes."},
    {"name": "jobs", "description": "Edits: submit, follow, download."},
    {"name": "openai", "description": "Edits as OpenAI's clients send them, and errors as they expect them."},
    {"name": "webhooks", "description": "Endpoints of yours that are called when a job ends (Standard Webhooks)."},
    {"name": "access", "description": "Signed URLs for clients that cannot send a key."},
    {"name": "system", "description": "Health and sample photos."},
]


def build_document(routes: Sequence[BaseRoute]) -> bytes:
    """Return the document as JSON."""
    document = get_openapi(
        title="ArtMancer",
        version="1",
        description=_DESCRIPTION,
        routes=routes,
        tags=_TAGS,
        servers=_SERVERS,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    _, definitions = models_json_schema(
        [(model, "validation") for model in _NOT_SEEN_BY_FASTAPI],
        ref_template="#/components/schemas/{model}",
    )
    schemas = document["components"]["schemas"]
    schemas |= definitions["$defs"] | build_event_schemas()
    for name in _FASTAPI_ERRORS:
        schemas.pop(name, None)
    _restore_nulls(Resource, schemas)
    document["webhooks"] = describe_webhooks()
    document["components"]["securitySchemes"] = _SECURITY
    document["components"]["parameters"] = {"RequestId": _REQUEST_ID}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/RequestId"})
            _add_security(method.upper(), path, operation)
            if "requestBody" in operation:  # http/body_limit.py and limits/body_budget.py judge every body
                for status, response in can_fail(408, 413).items():
                    operation["responses"].setdefault(str(status), response)
            _remove_fastapi_errors(operation["responses"])
            _add_examples(f"{method.upper()} {path}", operation, schemas)
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _add_security(method: str, path: str, operation: dict[str, Any]) -> None:
    """Add the scope that the operation requires and the responses to a request without it."""
    scope = required_scope(method, path)
    if scope is None:
        operation["security"] = []
        return
    operation["security"] = [{"key": [str(scope)]}]
    if method == "GET" and is_signable(path.format_map(_PATH_VALUES)):
        operation["security"].append({"signature": []})
    for status, response in can_fail(401, 403, 429).items():
        operation["responses"].setdefault(str(status), response)


def _restore_nulls(base: type[Resource], schemas: dict[str, Any]) -> None:
    """Restore the examples as written: FastAPI removes all nulls from them."""
    for model in base.__subclasses__():
        _restore_nulls(model, schemas)
        if model.__name__ in schemas:
            schemas[model.__name__] |= model.model_config.get("json_schema_extra") or {}


def _remove_fastapi_errors(responses: dict[str, Any]) -> None:
    """Remove the 422 response that FastAPI adds to each route with parameters: /v1 answers with a Problem."""
    schema = responses.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if schema.get("$ref", "").rpartition("/")[2] in _FASTAPI_ERRORS:
        del responses["422"]


def _add_examples(name: str, operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Copy each schema's first example into the bodies of that schema; some tools do not look into the schema."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        for media_type, content in part.get("content", {}).items():
            if media_type == "application/json" and "example" not in content:
                content["example"] = _example_of(name, content["schema"], schemas)


def _example_of(name: str, schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    if schema.get("type") == "array":
        return [_example_of(name, schema["items"], schemas)]
    model = schemas.get(schema.get("$ref", "").rpartition("/")[2], {})
    if not model.get("examples"):
        raise TypeError(f"{name}: give the body a model of v1/schemas.py with examples, see `with_examples`.")
    return model["examples"][0]
