"""The reviewed messages: a change to a message shows as a change of wire_schema.json.

After an intended change, write the file again with

    WIRE_SCHEMA=write python -m pytest tests/unit/test_wire_schema.py

and have the difference reviewed: services of the last release must understand the messages of this one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from shared import messages, webhook_messages
from shared.messages import JOB_EVENT, Message
from shared.metrics import UNKNOWN_FIELDS

SNAPSHOT = Path(__file__).with_name("wire_schema.json")
MESSAGES: dict[str, type[Message]] = {
    name: kind
    for name, kind in {**vars(messages), **vars(webhook_messages)}.items()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message and not name.startswith("_")
}
SHA, JOB = "ab" * 32, {"job_id": "j1"}
PICTURE = {"bucket": "results", "sha256": SHA, "content_type": "image/png", "width": 4, "height": 3, "size_bytes": 9}
SUBMIT = {"task": "removal", "image": SHA}
WORK = {**JOB, "user": "u1", "job_class": "batch", "log_seq": 7, "submit": SUBMIT}
DONE = {**JOB, "worker": "w1", "engine": "e", "attempt": 1, "result": PICTURE, "duration_ms": 5, "seed": 4,
        "changed_outside_px": 0}  # fmt: skip
SMALLEST: dict[str, dict[str, Any]] = {
    "ImageRef": PICTURE,
    "JobSubmit": SUBMIT,
    "JobWork": WORK,
    "Queued": {**JOB, "user": "u1", "task": "removal", "job_class": "batch", "log_seq": 7, "total_steps": 15},
    "Started": {**JOB, "worker": "w1", "engine": "e", "attempt": 1},
    "Returned": {**JOB, "worker": "w1", "attempt": 1, "reason": "stopping"},
    "Progress": {**JOB, "phase": "loading", "fraction": 0.5},
    "Preview": {**JOB, "step": 3, "jpeg_base64": "/9j/"},
    "Done": DONE,
    "Failed": {**JOB, "code": "busy", "message": "No."},
    "Cancelled": JOB,
    "Attempt": {"number": 1, "worker": "w1", "started_at": 1.0, "outcome": "vanished"},
    "DeadLetter": {**JOB, "reason": "bad_input", "message": "No.", "attempts": 1},
    "DebugImage": {"label": "mask", "sha256": SHA, "width": 4, "height": 3},
    "DebugSession": {
        **JOB,
        "name": "20261123_120000_00000001",
        "user": "u1",
        "created_at": 1.0,
        "engine": "e",
        "duration_ms": 5,
        "submit": SUBMIT,
        "result": PICTURE,
        "images": [],
    },
    "ReplayRequest": {"from_seq": 1},
    "RedriveRequest": {},
    "ReplayedJob": {"log_seq": 1, "job_id": "j1"},
    "ReplayReply": {"dry_run": True, "jobs": []},
    "JobRecord": {**JOB, "user": "u1", "state": "queued", "created_at": 1.0, "updated_at": 1.0, "last_seq": 0},
    "TaskAbility": {"parameters": []},
    "WorkerAbilities": {"worker": "w1", "engine": "e", "tasks": {}},
    "DrainRequest": {},
    "DrainReply": {"worker": "w1"},
    "QueueQuery": {},
    "QueueReport": {},
    "WebhookEndpoint": {
        "id": "wh_1",
        "owner": "u1",
        "key_id": "0f1e2d3c4b5a",
        "url": "https://example.com/",
        "events": ["job.done"],
        "secret": "whsec_AA==",
        "signing_seed": "whsk_AA==",
        "base_url": "https://here.example.com",
        "after_seq": 7,
        "created_at": 1.0,
    },
    "WebhookState": {},
    "WebhookDelivery": {},
    "WebhookAttempt": {"webhook_id": "msg_1", "type": "job.done", "attempt": 1, "outcome": "delivered"},
    "Stroke": {"points": [[1, 2]]},
    "MaskRequest": {"request_id": "r1", "image": SHA},
    "Mask": {"png": PICTURE, "score": 0.5},
    "MaskReply": {"masks": [{"png": PICTURE, "score": 0.5}], "engine": "e"},
    "OutlineRequest": {"request_id": "r1", "image": SHA, "point": [1, 2]},
    "OutlineReply": {"status": "nothing", "engine": "e"},
    "SaliencyRequest": {"image": SHA},
    "SaliencyReply": {},
    "Patch": {"image": PICTURE, "x": 0, "y": 0},
    "AssembleRequest": {"result": PICTURE, "base": PICTURE, "patches": [{"image": PICTURE, "x": 0, "y": 0}]},
    "ExtractRequest": {"image": SHA, "mask": SHA},
    "ShadowRequest": {"image": SHA},
    "WhiteBalanceRequest": {"image": SHA},
    "LightRequest": {"image": PICTURE},
    "LightReply": {"gains": [1, 1, 1]},
    "RenditionRequest": {"image": PICTURE, "format": "jpeg"},
    "RenditionReply": {"image": PICTURE},
    "ImageReply": {"png": PICTURE},
    "HealthRequest": {},
    "HealthReply": {"service": "s", "instance": "i", "status": "healthy"},
}
EVENTS = ("Queued", "Started", "Returned", "Progress", "Preview", "Done", "Failed", "Cancelled")


def test_the_wire_is_as_reviewed() -> None:
    """Every field, type, bound and default is in the snapshot."""
    _, schema = models_json_schema([(kind, "validation") for kind in MESSAGES.values()])
    if os.environ.get("WIRE_SCHEMA") == "write":
        SNAPSHOT.write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    assert schema == json.loads(SNAPSHOT.read_text(encoding="utf-8")), (
        "The wire has changed; see this file's docstring."
    )


def test_every_message_has_a_smallest_form_here() -> None:
    """The tests below leave none out."""
    assert set(SMALLEST) == set(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_comes_back_as_it_was_sent(name: str) -> None:
    """It survives JSON without its unset fields."""
    message = MESSAGES[name].model_validate(SMALLEST[name])
    sent = message.model_dump_json(exclude_none=True)

    assert MESSAGES[name].model_validate_json(sent) == message


@pytest.mark.parametrize("name", MESSAGES)
def test_an_unknown_field_is_kept_and_reported(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A newer release may have sent it, or it is misspelt: it is named in the log and counted."""
    before = UNKNOWN_FIELDS.labels(name)._value.get()  # noqa: SLF001 (the library has no reader)
    field = f"promt_{name}"
    message = MESSAGES[name].model_validate({**SMALLEST[name], field: "a cat"})

    assert message.unknown_fields() == [field]
    assert json.loads(message.model_dump_json(exclude_none=True))[field] == "a cat"
    assert UNKNOWN_FIELDS.labels(name)._value.get() == before + 1  # noqa: SLF001
    assert [(line.getMessage(), vars(line)["fields"]) for line in caplog.records] == [("message.unknown-fields", field)]


def test_names_of_unknown_fields_are_bounded() -> None:
    """Their sender chooses them, and they are logged and listed in an event."""
    message = MESSAGES["HealthRequest"].model_validate({"Q" * 10_000 + str(number): 1 for number in range(100)})

    assert message.unknown_fields() == ["Q" * 100] * 16


@pytest.mark.parametrize("name", MESSAGES)
def test_another_version_is_refused(name: str) -> None:
    """A message of another version is not guessed at."""
    with pytest.raises(ValidationError, match="Input should be 1"):
        MESSAGES[name].model_validate({**SMALLEST[name], "v": 2})


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_does_not_change(name: str) -> None:
    """Facts are facts."""
    message = MESSAGES[name].model_validate(SMALLEST[name])

    with pytest.raises(ValidationError, match="frozen"):
        message.v = 1  # type: ignore[misc]  # that it is refused is the point


@pytest.mark.parametrize("name", EVENTS)
def test_an_events_type_says_which_it_is(name: str) -> None:
    """One subject pattern carries all kinds; the field `type` distinguishes them."""
    event = MESSAGES[name].model_validate(SMALLEST[name])

    assert type(JOB_EVENT.validate_json(event.model_dump_json(exclude_none=True))) is MESSAGES[name]


def test_the_set_of_events_is_closed() -> None:
    """An unknown type is refused."""
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        JOB_EVENT.validate_python({**JOB, "type": "paused"})


def test_a_preview_is_small() -> None:
    """The one picture that travels inline is bounded to some 20 kB; all others go by reference."""
    with pytest.raises(ValidationError, match="at most 28000 characters"):
        MESSAGES["Preview"].model_validate({**SMALLEST["Preview"], "jpeg_base64": "A" * 28_001})


def test_every_model_is_a_message() -> None:
    """No second base without a version slips in."""
    found = {**vars(messages), **vars(webhook_messages)}
    models = {name for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}

    assert {name for name in models if not name.startswith("_")} - {"Message", "BaseModel"} == set(MESSAGES)
