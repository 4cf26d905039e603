"""Request ids, the audit log, and the secrets that no log and no cache may keep."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway.access.key_format import parse_key_id
from shared import subjects
from shared.settings import NatsSettings
from shared.topology import OWNED
from tests.gateway import HOST, WorkerByHand, edit, png
from tests.integration.keyed import keyed_gateway
from tests.v1_client import UNKNOWN, removal, submit, upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.integration.keyed import House


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Run a gateway that requires keys."""
    assert bus.is_connected
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path, result_wait_s=0.3) as house:
        yield house


@pytest.fixture
def worker(bus: Bus, images: NatsImageStore) -> WorkerByHand:
    """Return a worker for Alice's jobs."""
    return WorkerByHand(bus, images, "alice")


@pytest.mark.parametrize("given", ["abc.DEF-1_2", "x" * 128])
async def test_a_request_id_is_taken_over(house: House, given: str) -> None:
    """A proxy in front of the gateway may set it."""
    answer = await house.nobody.get("/api/health", headers={"X-Request-Id": given})

    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a'b", "ä"])
async def test_a_request_id_that_is_none_is_replaced(client: Client, given: str) -> None:
    """No log line repeats an invalid id, also on an open gateway."""
    answers = [await client.get("/api/health", headers=[(b"X-Request-Id", given.encode())]) for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]

    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    assert ids[0] != ids[1]


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the lines of the audit log."""
    return [vars(record) for record in caplog.records if record.name == "audit"]


async def test_the_audit_log_tells_who_did_what(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """A line for each change and each refusal, with the route's template; successful reads have none."""
    caplog.set_level(logging.INFO)
    job = await submit(house.alice)
    await house.alice.get(f"/v1/jobs/{job}")
    await house.alice.delete(f"/v1/jobs/{job}", headers={"X-Request-Id": "r-1"})
    await house.viewer.post("/api/generate/async", json=edit())
    await house.nobody.get(f"/v1/images/{UNKNOWN}")
    await house.nobody.get("/v1/jobs", headers={"Authorization": f"Bearer {house.keys['bob'][:-1]}x"})
    written = lines(caplog)
    facts = [(line["owner"], line["method"], line["route"], line["status"]) for line in written]

    assert facts == [
        ("alice", "POST", "/v1/images", 201),
        ("alice", "POST", "/v1/images", 201),
        ("alice", "POST", "/v1/jobs", 202),
        ("alice", "DELETE", "/v1/jobs/{job_id}", 200),
        ("alice", "POST", "/api/generate/async", 403),
        (None, "GET", "/v1/images/{sha256}", 401),
        (None, "GET", "/v1/jobs", 401),
    ]
    assert [line["key_id"] for line in written[-4:]] == [
        parse_key_id(house.keys["alice"]), parse_key_id(house.keys["viewer"]), None, parse_key_id(house.keys["bob"]),
    ]  # fmt: skip
    assert {line["client"] for line in written} == {HOST}
    assert written[3]["request_id"] == "r-1"
    assert all(line["duration_ms"] >= 0 for line in written)


async def test_the_audit_log_does_not_depend_on_the_level(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """LOG_LEVEL does not change it. A long method name, which any client can invent, is cut."""
    caplog.set_level(logging.ERROR)
    caplog.handler.setLevel(logging.NOTSET)
    await submit(house.alice)
    await house.nobody.request("X" * 5000, "/v1/jobs")

    assert [line["method"] for line in lines(caplog)] == ["POST", "POST", "POST", "X" * 16]


async def test_no_cache_keeps_one_callers_answer_for_another(house: House) -> None:
    """Some caches store by file name extension. A response with its own Cache-Control keeps it."""
    of_alice = [await house.alice.get(path) for path in ("/v1/jobs", "/api/debug/sessions/x/images/x.png")]
    photo = await house.alice.get(f"/v1/images/{await upload(house.alice, png())}")
    page = await house.nobody.get("/")

    assert [answer.headers["cache-control"] for answer in of_alice] == ["private", "private"]
    assert photo.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert page.headers["cache-control"] == "no-cache"


async def test_no_log_holds_a_key_a_signature_or_a_prompt(
    house: House, worker: WorkerByHand, caplog: pytest.LogCaptureFixture
) -> None:
    """At no level."""
    caplog.set_level(logging.DEBUG)
    accepted = (
        await house.alice.post("/v1/jobs", json=await removal(house.alice, prompt="a very private wish"))
    ).json()
    await worker.finish(accepted["id"])
    signature = re.findall(r"signature=([\w-]+)", accepted["links"]["events"])[0]
    await house.nobody.get(accepted["links"]["result"])
    await house.nobody.get(accepted["links"]["result"].replace("result?", "events?"))
    text = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    ours = "\n".join(line for line in text.splitlines() if "'name': 'httpx'" not in line and "'httpcore" not in line)

    assert "http.request" in ours
    assert signature not in ours
    assert "private wish" not in ours
    assert all(key[16:] not in ours for key in house.keys.values())


async def test_without_access_control_nothing_is_kept_of_it(
    client: Client, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """An open gateway has no audit log and no extra cache headers; its images belong to one owner."""
    caplog.set_level(logging.INFO)
    job = await submit(client)
    answer = await client.get(f"/v1/jobs/{job}")

    assert lines(caplog) == []
    assert {subjects.owner_of_entry(key) for key in await bus.subjects_in(OWNED, subjects.ALL_OWNED)} == {"local"}
    assert "Authorization" not in answer.headers.get("vary", "")
    assert answer.json()["links"]["events"] == f"/v1/jobs/{job}/events"
