"""The OpenAPI document of /v1: complete, with valid examples, equal to the snapshot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, TypeAdapter

from services.gateway.v1 import mask_schemas, schemas
from services.gateway.v1.image_edits import schemas as edit_schemas
from services.gateway.v1.routes.docs import SNAPSHOT, document
from services.gateway.v1.webhooks import schemas as webhook_schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

DESCRIBED: dict[str, Any] = json.loads(document())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DESCRIBED["paths"].items()
    for method, operation in operations.items()
}
MODELS = {
    name: model
    for module in (schemas, edit_schemas, mask_schemas, webhook_schemas)
    for name, model in vars(module).items()
    if isinstance(model, type) and issubclass(model, BaseModel)
}
LIKE_OPENAI = "POST /v1/images/edits"


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (place, media type, content) of each body of an operation."""
    for where, part in {"request": operation.get("requestBody", {}), **operation["responses"]}.items():
        for kind, content in part.get("content", {}).items():
            yield where, kind, content


def type_of(operation: str, schema: dict[str, Any]) -> Any:
    """Return the type of a body. It fails with a sentence for a body without a model, for example a dict."""
    if schema.get("type") == "array":
        return list[type_of(operation, schema["items"])]  # type: ignore[misc]
    name = schema.get("$ref", "").rpartition("/")[2]
    assert name in MODELS, f"{operation}: give the body a model of services/gateway/v1/schemas.py; it has {schema}"
    return MODELS[name]


def test_the_snapshot_is_up_to_date() -> None:
    """A change of the API shows in the diff of docs/openapi-v1.json; `make openapi` writes the file."""
    assert SNAPSHOT.read_bytes() == document(), "The API has changed: run `make openapi` and look at the difference."


def test_it_describes_v1_and_nothing_else() -> None:
    """The deployed client's /api has its own contract."""
    assert all(path.startswith("/v1/") for path in DESCRIBED["paths"])


def test_it_describes_all_operations() -> None:
    """Adding or removing an operation must change this list."""
    assert set(OPERATIONS) == {
        "POST /v1/images", "HEAD /v1/images/{sha256}", "GET /v1/images/{sha256}", "DELETE /v1/images/{sha256}",
        "GET /v1/images/{sha256}/white-balance/estimate", "POST /v1/extractions", LIKE_OPENAI,
        "POST /v1/masks/preview",
        "POST /v1/masks", "POST /v1/jobs", "GET /v1/jobs", "GET /v1/jobs/{job_id}", "DELETE /v1/jobs/{job_id}",
        "GET /v1/jobs/{job_id}/result", "GET /v1/jobs/{job_id}/receipt", "GET /v1/jobs/{job_id}/events",
        "POST /v1/webhooks", "GET /v1/webhooks", "GET /v1/webhooks/{webhook}", "DELETE /v1/webhooks/{webhook}",
        "POST /v1/webhooks/{webhook}/test", "POST /v1/webhooks/{webhook}/redeliver",
        "GET /v1/webhooks/{webhook}/attempts",
        "POST /v1/signed-urls", "GET /v1/health", "GET /v1/capabilities", "GET /v1/samples",
    }  # fmt: skip


def test_it_says_what_a_key_must_be_good_for() -> None:
    """Images and streams also open by a signed URL; health and samples need no key."""
    security = {name: operation["security"] for name, operation in OPERATIONS.items()}
    opens_by_address = {name for name, ways in security.items() if {"signature": []} in ways}

    assert [name for name, ways in security.items() if not ways] == ["GET /v1/health", "GET /v1/samples"]
    assert security["POST /v1/jobs"] == [{"key": ["write"]}]
    assert security["POST /v1/signed-urls"] == security["GET /v1/jobs"] == [{"key": ["read"]}]
    assert opens_by_address == {
        "GET /v1/images/{sha256}", "GET /v1/jobs/{job_id}/result", "GET /v1/jobs/{job_id}/events",
    }  # fmt: skip
    assert all({"401", "403", "429"} <= OPERATIONS[name]["responses"].keys() for name, ways in security.items() if ways)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_an_example(name: str) -> None:
    """For its request, its response or an error."""
    assert any("example" in content for _, _, content in contents(OPERATIONS[name]))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_text_body_has_an_example(name: str) -> None:
    """Only image bytes have none."""
    bare = [
        (where, kind)
        for where, kind, content in contents(OPERATIONS[name])
        if "example" not in content and not kind.startswith(("image/", "application/octet-stream", "multipart/"))
    ]

    assert bare == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_examples_are_valid(name: str) -> None:
    """Each example matches its schema."""
    for _, kind, content in contents(OPERATIONS[name]):
        if kind.endswith("json"):
            TypeAdapter(type_of(name, content["schema"])).validate_json(json.dumps(content["example"]))


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if "examples" in str(model.model_config)])
def test_the_examples_in_the_schemas_are_valid(name: str) -> None:
    """Each example of each model."""
    examples = DESCRIBED["components"]["schemas"][name]["examples"]

    assert all(MODELS[name].model_validate_json(json.dumps(example)) for example in examples)


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {LIKE_OPENAI}))
def test_failures_are_problem_details(name: str) -> None:
    """Their status is the one that they are listed under."""
    for where, kind, content in contents(OPERATIONS[name]):
        if where >= "4" and where != "request":
            assert kind == "application/problem+json"
            assert content["example"]["status"] == int(where)


def test_every_reference_leads_somewhere() -> None:
    """Also in bodies that FastAPI does not read."""
    text = document().decode()
    wanted = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}

    assert "$defs" not in text
    assert wanted <= DESCRIBED["components"]["schemas"].keys()


def test_operations_are_named_for_programs() -> None:
    """Generated clients have functions of these names."""
    names = [operation["operationId"] for operation in OPERATIONS.values()]

    assert len(set(names)) == len(names)
    assert "submit_job" in names
