"""Today's code reads the messages that each release sent: streams and buckets keep them for days."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from shared import messages
from shared.jobs import fold
from shared.messages import JOB_EVENT, JobRecord, JobState, Message
from shared.versions import is_newer
from tests.unit.test_wire_schema import MESSAGES
from tests.wire.record import build

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


def current_messages(release: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the messages that the recorder writes with today's code, by their names of that release."""
    old_names = {new: old for old, new in RENAMED.items()}
    known = {path.stem for path in release.glob("*.json")} - {"schema"}
    found = ((old_names.get(name, name), build(name).model_dump(mode="json", exclude_none=True)) for name in MESSAGES)
    return [(name, content) for name, content in found if name in known]


@pytest.mark.parametrize("release", sorted(WIRE.glob("*.*.*")), ids=lambda path: path.name)
def test_todays_messages_can_be_read_by_the_release(release: Path) -> None:
    """Every field that the release requires is there, and every field that it knows has a type and value that it takes.

    Release 0.1.0 refuses unknown fields: the next test.
    """
    schema = json.loads((release / "schema.json").read_text())
    for kind in schema["$defs"].values():
        kind.pop("additionalProperties", None)
    problems = [
        f"{name}: {error.message}"
        for name, content in current_messages(release)
        for error in Draft202012Validator({**schema, "$ref": f"#/$defs/{name}"}).iter_errors(content)
    ]

    assert not problems


def test_a_new_field_is_left_out_where_it_is_empty() -> None:
    """Release 0.1.0 refuses unknown fields. A field that is not empty needs a place in the order of an upgrade."""
    release = WIRE / "0.1.0"
    schema = json.loads((release / "schema.json").read_text())
    new = {
        (name, field)
        for name, content in current_messages(release)
        for field in content.keys() - schema["$defs"][name]["properties"].keys()
    }

    assert new == set()


@pytest.mark.parametrize("kind", ["Done", "Failed", "Cancelled"])
@pytest.mark.parametrize("release", sorted(WIRE.glob("*.*.*")), ids=lambda path: path.name)
def test_a_record_of_a_job_of_the_release_can_be_read_by_it(release: Path, kind: str) -> None:
    """Today's job manager folds the events of an older worker; the other services of that release read the view."""
    record = JobRecord.model_validate_json((release / "JobRecord.json").read_text())
    end = JOB_EVENT.validate_json((release / f"{kind}.json").read_text())
    running = record.model_copy(update={"ended": None, "state": JobState.RUNNING, "last_seq": 0})
    folded = fold(running, end, 1).model_dump(mode="json", exclude_none=True)
    schema = json.loads((release / "schema.json").read_text())

    assert folded["ended"]["type"] == kind.lower()
    assert not list(Draft202012Validator({**schema, "$ref": "#/$defs/JobRecord"}).iter_errors(folded))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_message_of_the_next_release_is_read(path: Path) -> None:
    """It has one more optional field; all others come back with their values."""
    recorded = json.loads(path.read_text())
    message = kind_of(path.stem).model_validate_json(json.dumps({**recorded, "next": {"a": [1]}}))
    read = message.model_dump(mode="json", exclude_none=True)

    assert {field: read[field] for field in recorded} == recorded


@pytest.mark.parametrize(
    ("change", "newer"),
    [
        ({"v": 2}, True),
        ({"v": 2, "image": None}, True),
        ({"task": "relight"}, True),
        ({"v": "2"}, False),
        ({"v": 0}, False),
        ({"task": 7}, False),
        ({"task": "relight", "image": None}, False),
        ({"image": None}, False),
        ({"colour": "red"}, False),
    ],
    ids=str,
)
def test_a_newer_message_differs_from_a_malformed_one(change: dict[str, Any], newer: bool) -> None:  # noqa: FBT001
    """Only a higher `v`, or an unknown task alone, means a newer release."""
    recorded = json.loads((WIRE / "0.1.0" / "JobSubmit.json").read_text())

    assert is_newer(messages.JobSubmit, json.dumps({**recorded, **change}).encode()) is newer
