"""A gateway stops in the middle of an edit: the deployed client, which repeats no request, still gets the result.

It submits, reads the stream to its end, whatever the last state was, and then asks for the result twice at once.
"""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from shared.settings import NatsSettings
from tests.caddy import caddy
from tests.gateway import HOST, ORIGIN, Client, edit, event_of, gateway, gateway_process, healthy
from tests.ports import free_port
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from services.stack.nats_server import NatsServer
    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.gateway import WorkerByHand

EDITS = 6


class Page:
    """A page of the deployed client, and the edit that it waits for."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.task = ""
        self.words: list[str] = []
        self.stream_ended = False

    async def edit(self) -> tuple[httpx.Response, httpx.Response]:
        """Submit, follow the stream to its end, and return the picture and the facts."""
        self.task = (await self._client.post("/api/generate/async", json=edit())).json()["task_id"]
        async with self._client.stream("GET", f"/api/generate/stream/{self.task}") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    self.words.append(json.loads(line.removeprefix("data: "))["status"])
        self.stream_ended = True
        picture, facts = await asyncio.gather(
            *(self._client.get(f"/api/generate/{name}/{self.task}") for name in ("result-image", "result"))
        )
        return picture, facts


def browser(address: str) -> httpx.AsyncClient:
    """Return a browser; like one, it follows redirects and waits long."""
    return httpx.AsyncClient(
        base_url=address, headers={"Origin": ORIGIN}, timeout=TIMEOUT_S, follow_redirects=True, trust_env=False
    )


async def refuses(port: int) -> bool:
    """Return whether nothing accepts connections at the port."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return True
    writer.close()
    await writer.wait_closed()
    return False


async def test_every_edit_survives_a_stop_in_its_middle(
    bus: Bus, nats_url: str, worker: WorkerByHand, tmp_path: Path
) -> None:
    """The streams end after the drain time, and the result requests wait on the next gateway, through Caddy."""
    assert bus.is_connected
    port = free_port()
    variables = {"GATEWAY_PORT": str(port), "GATEWAY_DRAIN_S": "0.5", "NATS_URL": nats_url}
    async with (
        caddy("Caddyfile", tmp_path, GATEWAY=f"{HOST}:{port}") as address,
        Client(port) as probe,
        browser(address) as client,
    ):
        pages = [Page(client) for _ in range(EDITS)]
        async with gateway_process(**variables) as first, asyncio.TaskGroup() as group:
            await healthy(probe)
            edits = [group.create_task(page.edit(), name="page") for page in pages]
            for page in pages:
                await wait_until(lambda page=page: page.words, "the page follows its edit")  # type: ignore[misc]
                await worker.queue(page.task)
                await worker.start(page.task)
                await worker.step(page.task, 1)
            first.send_signal(signal.SIGTERM)
            code = await first.wait()
            async with gateway_process(**variables):
                await wait_until(lambda: all(page.stream_ended for page in pages), "all streams have ended")
                await healthy(probe)
                for page in pages:
                    await worker.step(page.task, 2)
                    await worker.finish(page.task)
                answers = [await each for each in edits]

    assert code == 0
    assert {page.words[-1] for page in pages} <= {"queued", "loading_pipeline", "processing"}
    assert [picture.status_code for picture, _ in answers] == [200] * EDITS
    assert [facts.json()["model_used"] for _, facts in answers] == ["by-hand"] * EDITS


async def test_an_edit_that_ends_within_the_drain_time_ends_its_stream(
    bus: Bus, nats_url: str, worker: WorkerByHand
) -> None:
    """The stopping gateway accepts nothing new and still sends every state; it ends with its last stream."""
    assert bus.is_connected
    port = free_port()
    variables = {"GATEWAY_PORT": str(port), "GATEWAY_DRAIN_S": "50", "NATS_URL": nats_url}
    async with gateway_process(**variables) as running, Client(port) as client:
        await healthy(client)
        task = await client.submit()
        await worker.queue(task)
        async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
            await stream.chunk()
            running.send_signal(signal.SIGTERM)
            await wait_until(lambda: refuses(port), "the gateway accepts no connection")
            await worker.step(task, 1)
            await worker.finish(task)
            states = [event_of(chunk)["status"] for chunk in await stream.rest() if chunk.startswith(b"data: ")]
        code = await running.wait()

    assert states[-2:] == ["processing", "done"]
    assert code == 0


@pytest.mark.parametrize("name", ["result", "result-image"])
async def test_a_result_request_that_waits_is_sent_to_the_next_gateway(
    bus: Bus, nats_url: str, stream_settings: StreamSettings, name: str
) -> None:
    """A redirect to the same address: a browser follows it, and shows any other answer as an error."""
    assert bus.is_connected
    async with AsyncExitStack() as later:
        async with gateway(NatsSettings(url=nats_url), stream_settings, drain_s=0.1) as client:
            task = await client.submit()
            page = await later.enter_async_context(Client(client.port))
            path = f"/api/generate/{name}/{task}"
            asked = asyncio.create_task(page.get(path, params={"key": "k1"}), name="asked")
            await wait_until(is_waiting, "the request waits for the job")
        answer = await asked

    assert answer.status_code == 307
    assert answer.url.join(answer.headers["location"]) == answer.url
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["connection"] == "close"


def is_waiting() -> bool:
    """Return whether a request waits in this process, where its two tasks race."""
    return any(task.get_name() == "lifecycle.race" for task in asyncio.all_tasks())


async def test_a_client_that_leaves_ends_its_wait(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> None:
    """A wait of five minutes must not outlive its client."""
    assert bus.is_connected
    async with gateway(NatsSettings(url=nats_url), stream_settings) as client:
        task = await client.submit()
        async with Client(client.port) as page:
            asked = asyncio.create_task(page.get(f"/api/generate/result/{task}"), name="asked")
            await wait_until(is_waiting, "the request waits for the job")
            asked.cancel()
            await asyncio.wait({asked})
        await wait_until(lambda: not is_waiting(), "nothing waits any more")


async def test_a_gateway_without_a_broker_makes_the_client_wait(
    bus: Bus, nats_url: str, nats_server: NatsServer, worker: WorkerByHand
) -> None:
    """Stream and results are answered once the broker is there."""
    port = free_port()
    variables = {"GATEWAY_PORT": str(port), "NATS_URL": nats_url}
    async with gateway_process(**variables), Client(port) as client:
        await healthy(client)
        task = await client.submit()
        await worker.queue(task)
    await nats_server.stop()
    async with gateway_process(**variables), Client(port) as client, asyncio.TaskGroup() as group:
        await healthy(client, "degraded")
        await client.get("/v1/nothing")  # until then the app is being imported, and requests wait for that
        paths = [f"/api/generate/{name}/{task}" for name in ("stream", "result", "result-image")]
        asked = [group.create_task(client.get(path), name="asked") for path in paths]
        await client.get("/v1/nothing")  # answered after the others have been received
        await nats_server.start()
        await bus.up.wait()
        await worker.finish(task)
    stream, facts, picture = [each.result() for each in asked]

    assert (stream.status_code, facts.status_code, picture.status_code) == (200, 200, 200)
    assert stream.text.count('"status":"done"') == 1


async def test_a_broker_that_stays_away_is_said_after_the_wait(
    bus: Bus, nats_url: str, nats_server: NatsServer, stream_settings: StreamSettings
) -> None:
    """The reply is an error text for users."""
    assert bus.is_connected
    async with gateway(NatsSettings(url=nats_url), stream_settings, result_wait_s=0.1) as client:
        task = await client.submit()
        await nats_server.stop()
        await healthy(client, "degraded")
        answers: list[Any] = [
            (await client.get(f"/api/generate/{name}/{task}")).json() for name in ("result", "stream")
        ]
        await nats_server.start()

    assert answers == [{"detail": "The service is not available at the moment, please try again."}] * 2
