"""The header Last-Event-ID of an event stream, and the data of its events."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import jsonschema
import pytest
from fastapi import FastAPI

from services.gateway.v1.event_schemas import names_by_event
from services.gateway.v1.events import frame
from services.gateway.v1.routes.docs import document
from services.gateway.v1.routes.events import LastEventId  # noqa: TC001 (FastAPI reads the annotation)
from shared.jobs import fold
from shared.messages import JOB_EVENT

RECORDED = Path(__file__).parents[4] / "wire" / "0.1.0"
app = FastAPI()


async def _read(last_event_id: LastEventId = None) -> int | None:
    return last_event_id


app.get("/")(_read)


@pytest.mark.parametrize(
    ("headers", "status", "parsed"),
    [
        ({}, 200, None),
        ({"Last-Event-ID": ""}, 200, None),
        ({"Last-Event-ID": "0"}, 200, 0),
        ({"Last-Event-ID": "41"}, 200, 41),
        ({"Last-Event-ID": "-1"}, 422, None),
        ({"Last-Event-ID": "x"}, 422, None),
    ],
)
async def test_an_empty_header_counts_as_none(headers: dict[str, str], status: int, parsed: int | None) -> None:
    """Anything else must be a number of an event."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        answer = await client.get("/", headers=headers)

    assert answer.status_code == status
    assert status == 422 or answer.json() == parsed


@pytest.mark.parametrize(
    "name", ["Queued", "Started", "Returned", "Progress", "Preview", "Done", "Failed", "Cancelled"]
)
def test_an_event_fits_its_schema(name: str) -> None:
    """A program that validates the data of each event by the OpenAPI document accepts it."""
    event = JOB_EVENT.validate_json((RECORDED / f"{name}.json").read_bytes())
    described = json.loads(document())
    reference = names_by_event()[event.type]

    sent = json.loads(frame(7, event, fold(None, event, 7)).partition(b"data: ")[2])

    jsonschema.Draft202012Validator({**reference, "components": described["components"]}).validate(sent)
    assert set(sent) == set(described["components"]["schemas"][f"{name}Event"]["required"])
