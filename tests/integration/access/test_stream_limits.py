"""The open event streams of keys: how many, and for how long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.gateway import keys
from services.gateway.access.key_format import parse_key_id
from shared.settings import NatsSettings
from tests.gateway import WorkerByHand, edit
from tests.integration.keyed import keyed_gateway
from tests.v1_client import read_events, submit
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.integration.keyed import House


@pytest.fixture
async def house(
    bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[House]:
    """Provide a gateway that requires keys and has frequent heartbeats."""
    assert bus.is_connected
    settings = {"heartbeat_s": 0.2, **getattr(request, "param", {})}
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path, **settings) as house:
        yield house


@pytest.fixture
def worker(bus: Bus, images: NatsImageStore) -> WorkerByHand:
    """Return the job manager and worker of Alice's jobs."""
    return WorkerByHand(bus, images, "alice")


async def open_status(house: House, path: str) -> int:
    """Return the status of another stream, which is closed at once."""
    async with await house.alice.open_stream(path) as wire:
        return wire.status


@pytest.mark.parametrize("house", [{"key_streams_at_once": 2, "key_requests_at_once": 1}], indirect=True)
async def test_a_key_may_open_so_many_streams(house: House, worker: WorkerByHand) -> None:
    """A stream counts for as long as it is open, and not as a request; other keys have streams of their own."""
    job = await submit(house.alice)
    task = (await house.bob.post("/api/generate/async", json=edit())).json()["task_id"]
    path = f"/v1/jobs/{job}/events"
    async with await house.alice.open_stream(path), await house.alice.open_stream(path):
        refused = await house.alice.get(path)
        refused_too = await house.alice.get(f"/api/generate/stream/{job}")
        other = await house.alice.get("/v1/jobs")
        async with await house.bob.open_stream(f"/api/generate/stream/{task}") as bobs:
            first = await bobs.status_word()
    await worker.finish(job)

    assert (refused.status_code, refused.headers["retry-after"], refused.json()["code"]) == (429, "5", "busy")
    assert (refused_too.status_code, list(refused_too.json())) == (429, ["detail"])
    assert (other.status_code, first) == (200, "queued")

    async def room() -> bool:
        return await open_status(house, path) == 200

    await wait_until(room, "the gateway has noticed that the streams are gone")


@pytest.mark.parametrize("house", [{"streams_at_once": 2}], indirect=True)
async def test_all_keys_together_may_open_so_many_streams(house: House) -> None:
    """They must fit into the memory of the container."""
    path = f"/api/generate/stream/{await house.alice.submit()}"
    async with await house.alice.open_stream(path), await house.viewer.open_stream(path):
        refused = await house.alice.get(path)

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert refused.json() == {"detail": "The server has too many open event streams, please try again in a moment."}


@pytest.mark.parametrize("path", ["/v1/jobs/{}/events", "/api/generate/stream/{}", "signed"])
async def test_a_stream_ends_with_its_key(house: House, worker: WorkerByHand, path: str) -> None:
    """At the next heartbeat, whether events come or not; the streams of other keys go on."""
    job = await submit(house.alice)
    own = path.format(job)
    if path == "signed":
        own = (await house.alice.post("/v1/signed-urls", json={"path": f"/v1/jobs/{job}/events"})).json()["url"]
    async with (
        await (house.nobody if path == "signed" else house.alice).open_stream(own) as revoked,
        await house.viewer.open_stream(f"/v1/jobs/{job}/events") as other,
    ):
        keys.revoke(house.file, parse_key_id(house.keys["alice"]))
        chunks = await revoked.rest()
        await worker.finish(job)
        events = await read_events(other)

    assert not any(b"done" in chunk for chunk in chunks)
    assert events[-1].name == "done"


async def test_a_result_is_not_given_to_a_key_that_ended_meanwhile(house: House, worker: WorkerByHand) -> None:
    """The request waited for the job when the key was revoked."""
    job = await house.alice.submit()
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(house.alice.get(f"/api/generate/result/{job}"), name="asked")
        await wait_until(
            lambda: any(task.get_name() == "lifecycle.race" for task in asyncio.all_tasks()), "the request waits"
        )
        keys.revoke(house.file, parse_key_id(house.keys["alice"]))

        async def key_is_refused() -> bool:
            return (await house.alice.get("/v1/jobs")).status_code == 401

        await wait_until(key_is_refused, "the key opens nothing any more")
        await worker.finish(job)

    assert asked.result().status_code == 401
