"""Today's code reads the messages that each release sent: streams and buckets keep them for days."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared import messages
from shared.messages import JOB_EVENT, Message

WIRE = Path(__file__).resolve().parents[1] / "wire"
RENAMED = {"PictureReply": "ImageReply"}  # the class of a message may change its name, its JSON may not
RECORDED = sorted(path for path in WIRE.glob("*/*.json") if path.name != "schema.json")


def kind_of(name: str) -> type[Message]:
    found: type[Message] = getattr(messages, RENAMED.get(name, name))
    return found


def test_each_release_has_a_message_of_each_type() -> None:
    """A type without a recorded message would not be compared."""
    for release in WIRE.glob("*.*.*"):
        schema: dict[str, Any] = json.loads((release / "schema.json").read_text())
        types = {name for name in schema["$defs"] if name not in {"JobClass", "JobState", "Task"}}

        assert {path.stem for path in release.glob("*.json")} == {*types, "schema"}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recorded_message_is_read(path: Path) -> None:
    """Every field comes back with its value; fields that are new since then have defaults."""
    recorded = json.loads(path.read_text())
    message = kind_of(path.stem).model_validate_json(path.read_text())
    read = message.model_dump(mode="json", exclude_none=True)

    assert {field: read[field] for field in recorded} == recorded


@pytest.mark.parametrize("path", [path for path in RECORDED if path.stem in {
    "Queued", "Started", "Returned", "Progress", "Preview", "Done", "Failed", "Cancelled",
}], ids=lambda path: path.stem)  # fmt: skip
def test_a_recorded_event_has_its_type(path: Path) -> None:
    """The union of events tells the same types apart as at the release."""
    assert isinstance(JOB_EVENT.validate_json(path.read_text()), kind_of(path.stem))
