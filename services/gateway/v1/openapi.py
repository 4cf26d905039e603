"""The description of /v1, made from its routes. `python -m services.gateway.v1.openapi` writes the snapshot of it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from services.gateway.access.authorization import required_scope
from services.gateway.access.signed_urls import PARAMETER, is_signable
from services.gateway.v1.job_views import JobSubmission
from services.gateway.v1.openapi_responses import can_fail
from services.gateway.v1.routes import events, images, jobs, masks, signed_urls, system
from services.gateway.v1.schemas import ExtractionRequest, MaskQuery, Problem, Resource, SignedUrlRequest

SNAPSHOT = Path(__file__).parents[3] / "docs" / "openapi-v1.json"
ROUTERS = tuple(routes.router for routes in (images, masks, jobs, events, signed_urls, system))
_READ_BY_HAND = (ExtractionRequest, MaskQuery, JobSubmission, SignedUrlRequest, Problem)
_ANY = {"job_id": "x", "sha256": "0" * 64}
_NOT_OURS = ("HTTPValidationError", "ValidationError")
_SECURITY = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, where the server asks for one: always, unless only its own machine can reach it.",
    },
    "signature": {
        "type": "apiKey",
        "in": "query",
        "name": PARAMETER,
        "description": "An address from /v1/signed-urls or from the links of a job: key, expires and signature.",
    },
}
_ABOUT = """Edit photos: mark a region, then remove what is there, insert an object, or correct the white balance.

Pictures are uploaded once and named by the SHA-256 of their bytes. Failures are problem details (RFC 9457)."""
_TAGS = [
    {"name": "pictures", "description": "Stored once, named by their content."},
    {"name": "masks", "description": "Found by pointing at things."},
    {"name": "jobs", "description": "Edits: ordered, followed, fetched."},
    {"name": "access", "description": "Addresses for what cannot send a key."},
    {"name": "system", "description": "How the system is, and photos to try it with."},
]


@cache
def document() -> bytes:
    """Return the description as JSON."""
    routes = [route for router in ROUTERS for route in router.routes]
    document = get_openapi(title="ArtMancer", version="1", description=_ABOUT, routes=routes, tags=_TAGS)
    _, definitions = models_json_schema(
        [(model, "validation") for model in _READ_BY_HAND], ref_template="#/components/schemas/{model}"
    )
    schemas = document["components"]["schemas"]
    schemas |= definitions["$defs"]
    for name in _NOT_OURS:
        schemas.pop(name, None)
    _restore_nulls(Resource, schemas)
    document["components"]["securitySchemes"] = _SECURITY
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _guard(method.upper(), path, operation)
            _drop_foreign(operation["responses"])
            _add_examples(operation, schemas)
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _guard(method: str, path: str, operation: dict[str, Any]) -> None:
    """Say what a key must be good for, and what is answered to those who have none; as access.py decides it."""
    scope = required_scope(method, path)
    if scope is None:
        operation["security"] = []
        return
    operation["security"] = [{"key": [str(scope)]}]
    if method == "GET" and is_signable(path.format_map(_ANY)):
        operation["security"].append({"signature": []})
    operation["responses"] |= {str(status): answer for status, answer in can_fail(401, 403, 429).items()}


def _restore_nulls(kind: type[Resource], schemas: dict[str, Any]) -> None:
    """Put the examples in as they were written: FastAPI has taken all nulls out of them."""
    for model in kind.__subclasses__():
        _restore_nulls(model, schemas)
        if model.__name__ in schemas:
            schemas[model.__name__] |= model.model_config.get("json_schema_extra") or {}


def _drop_foreign(answers: dict[str, Any]) -> None:
    """Take out the failure that FastAPI adds to each route with parameters: ours look different."""
    schema = answers.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if schema.get("$ref", "").rpartition("/")[2] in _NOT_OURS:
        del answers["422"]


def _add_examples(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Repeat each schema's example beside the answer or the body that has it; not all tools look into the schema."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        for kind, content in part.get("content", {}).items():
            if kind == "application/json" and "example" not in content:
                content["example"] = _example(content["schema"], schemas)


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    if schema.get("type") == "array":
        return [_example(schema["items"], schemas)]
    return schemas[schema["$ref"].rpartition("/")[2]]["examples"][0]


if __name__ == "__main__":
    SNAPSHOT.write_bytes(document())
