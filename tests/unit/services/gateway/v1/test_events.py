"""The header Last-Event-ID of an event stream."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from services.gateway.v1.routes.events import LastEventId  # noqa: TC001 (FastAPI reads the annotation)

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
