"""The JSON schemas of the events that /v1 streams, derived from the messages of the bus, see `events.frame`."""

from __future__ import annotations

from typing import Any, get_args

from pydantic.json_schema import models_json_schema

from shared.messages import JobEvent

_REF = "#/components/schemas/"
_ADDED = {
    "status": {"$ref": f"{_REF}JobState"},
    "progress": {"type": "number", "minimum": 0, "maximum": 1, "description": "Of the whole job."},
}
_OWN_FORM = {"ImageRef": "Image"}  # a stored image has another body in /v1
_NOT_SENT = ("v", "type")


def build_event_schemas() -> dict[str, Any]:
    """Return the schema of each event's `data`, by the name of its component, for example `ProgressEvent`."""
    kinds = get_args(get_args(JobEvent)[0])
    _, definitions = models_json_schema([(kind, "serialization") for kind in kinds], ref_template=f"{_REF}{{model}}")
    return {f"{kind.__name__}Event": _as_sent(definitions["$defs"][kind.__name__]) for kind in kinds}


def names_by_event() -> dict[str, dict[str, str]]:
    """Return a reference to the schema of each event, by the event's name."""
    kinds = get_args(get_args(JobEvent)[0])
    return {kind.model_fields["type"].default: {"$ref": f"{_REF}{kind.__name__}Event"} for kind in kinds}


def _as_sent(schema: dict[str, Any]) -> dict[str, Any]:
    fields = {name: _in_v1(field) for name, field in schema["properties"].items() if name not in _NOT_SENT}
    fields |= _ADDED
    return {"type": "object", "description": schema["description"], "properties": fields, "required": list(fields)}


def _in_v1(field: Any) -> Any:
    """Replace the references to messages that /v1 sends in another form."""
    if isinstance(field, dict):
        return {name: _in_v1(value) for name, value in field.items()}
    if isinstance(field, list):
        return [_in_v1(value) for value in field]
    if isinstance(field, str) and field.startswith(_REF):
        name = field.removeprefix(_REF)
        return _REF + _OWN_FORM.get(name, name)
    return field
