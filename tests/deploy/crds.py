"""Check an object against the schema of its type, as an API server with strict validation does."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jsonschema
import yaml

if TYPE_CHECKING:
    from pathlib import Path


def close(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with unknown fields forbidden, at every depth."""
    closed = {key: close(value) if isinstance(value, dict) else value for key, value in schema.items()}
    if str(schema.get("pattern", "")).startswith("^(?"):  # flags behind the start, which Python refuses
        del closed["pattern"]
    for key in ("allOf", "anyOf", "oneOf"):  # rules about fields that are declared beside them
        if key in schema:
            closed[key] = schema[key]
    if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
        closed["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields", False))
    return closed


@functools.cache
def schema_of(file: Path, version: str) -> dict[str, Any]:
    """Return the closed schema of one served version; the API server checks the metadata itself."""
    declared = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]
    (schema,) = [each["schema"]["openAPIV3Schema"] for each in declared if each["name"] == version and each["served"]]
    closed = close(schema)
    closed["properties"]["metadata"] = {"type": "object"}
    return closed


def check(manifest: dict[str, Any], folder: Path) -> None:
    """Raise ValidationError if the object differs from the declaration of its type; the rules in CEL are not run."""
    group, _, version = manifest["apiVersion"].partition("/")
    (file,) = folder.glob(f"{group}_{manifest['kind'].lower()}s.yaml")
    jsonschema.validate(manifest, schema_of(file, version), cls=jsonschema.Draft202012Validator)
