"""Check docs/asyncapi.yaml against the subjects, the streams, and the messages that the last release recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.asyncapi import PAGE, channels, document, page
from shared import messages, subjects, topology, webhook_subjects
from shared.messages import Message
from shared.settings import StreamSettings
from tests.unit.test_wire_releases import RENAMED

RECORDED = Path(__file__).parents[1] / "wire" / "0.1.0"
SHA = "ab" * 32
SUBJECTS = {
    subjects.submission("batch", "ann", "j1"): "submission",
    subjects.queue_entry("batch", "removal", "ann", "j1"): "waitingJob",
    subjects.event("j1", "progress"): "progress",
    subjects.end("j1"): "end",
    subjects.live_end("j1"): "liveEnd",
    subjects.dead_letter("bad_input", "j1"): "deadLetter",
    subjects.job_record("ann", "j1"): "jobRecord",
    subjects.image_ownership("ann", SHA): "ownership",
    subjects.debug_session("ann", "20261123_120000_00000001"): "debugSession",
    subjects.seg_cancel("r1"): "maskCancel",
    subjects.PHOTOS: "storedPhoto",
    webhook_subjects.endpoint("ann", "wh_1"): "webhookEndpoint",
    webhook_subjects.state("ann", "wh_1"): "webhookState",
    webhook_subjects.delivery("ann", "wh_1", "end", "j1"): "webhookDelivery",
    webhook_subjects.attempts_at("ann", "wh_1"): "webhookAttempt",
    subjects.health("gateway"): "health",
}


def test_the_document_is_up_to_date() -> None:
    """A subject, a message or a limit that changes appears in the document."""
    assert PAGE.read_text(encoding="utf-8") == page(), "Run `make asyncapi` and commit docs/asyncapi.yaml."


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_has_its_channel(subject: str) -> None:
    """The addresses are those that shared/subjects.py builds."""
    matching = [channel.name for channel in channels() if re.fullmatch(as_pattern(channel.address), subject)]

    assert matching == [SUBJECTS[subject]]


def test_every_service_subject_has_a_channel() -> None:
    """Each constant `svc.…` of shared/subjects.py is an operation with a reply."""
    served = {value for value in vars(subjects).values() if isinstance(value, str) and value.startswith("svc.")}
    served = {value.replace("*", "{worker}") for value in served}

    assert served <= {channel.address for channel in channels() if channel.reply is not None}


def test_every_stream_has_a_channel() -> None:
    """No stream of our messages is missing; the rest belong to the broker and to its object stores."""
    described = {facts["x-jetstream"]["stream"] for facts in document()["channels"].values() if "x-jetstream" in facts}
    declared = {str(stream.name) for stream in topology.build_topology(StreamSettings()).streams}

    assert {name for name in declared - described if not name.startswith("OBJ_")} == {topology.ADVISORY}


def test_every_message_has_a_schema() -> None:
    """Also those that are only parts of others."""
    kinds = {
        name
        for name, kind in vars(messages).items()
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message and not name.startswith("_")
    }

    assert kinds <= set(document()["components"]["schemas"])


@pytest.mark.parametrize("path", sorted(RECORDED.glob("[A-Z]*.json")), ids=lambda path: path.stem)
def test_a_recorded_message_fits_its_schema(path: Path) -> None:
    """A program that validates by the document accepts the messages of the last release."""
    name = RENAMED.get(path.stem, path.stem)

    validator = jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}
    )

    assert validator.is_valid(json.loads(path.read_text()))


def test_all_references_lead_somewhere() -> None:
    """Tools resolve each of them."""
    text = yaml.safe_load(PAGE.read_text(encoding="utf-8"))
    for reference in references(text):
        found: Any = text
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def as_pattern(address: str) -> str:
    """Return a regular expression for an address, in which each parameter is one token."""
    return r"\.".join(r"[^.]+" if part.startswith("{") else re.escape(part) for part in address.split("."))


def references(node: Any) -> list[str]:
    """Return all values of `$ref` in a document."""
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    if isinstance(node, list):
        return [found for value in node for found in references(value)]
    return []
