"""A streamed POST /v1/images/edits, frame by frame."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.messages import Preview, Progress
from shared.settings import NatsSettings
from tests.gateway import Client, gateway, png
from tests.openai_forms import PATH, SIZE, alpha_mask, parts, send, submit
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.gateway import WorkerByHand

PREVIEW = "/9j/4AAQ"
Events = list[dict[str, Any]]


@asynccontextmanager
async def streaming(client: Client, **fields: Any) -> AsyncIterator[asyncio.Task[Events]]:
    """Stream an edit beside the block; the task returns the data of all events."""

    async def read() -> Events:
        form = parts(stream="true", **fields)
        async with client.stream("POST", PATH, files=form) as answer:
            assert (answer.status_code, answer.headers["content-type"][:17]) == (200, "text/event-stream")
            frames = (await answer.aread()).decode().split("\n\n")
        return [json.loads(frame.partition("\ndata: ")[2]) for frame in frames if frame and not frame.startswith(":")]

    async with asyncio.TaskGroup() as group:
        task = group.create_task(read(), name="stream")
        yield task


async def advance(worker: WorkerByHand, job_id: str, step: int, steps: int = 10) -> None:
    """Publish a step and its preview."""
    await worker.say(Progress(job_id=job_id, phase="processing", step=step, total_steps=steps, fraction=step / steps))
    await worker.say(Preview(job_id=job_id, step=step, jpeg_base64=PREVIEW))


async def test_previews_come_first_and_are_spread(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """Of ten previews two: the first one, and the first one of the second half. Then the result."""
    async with streaming(client, partial_images=2, user="user-1") as task:
        (job_id,) = await submit(bus)
        await worker.queue(job_id, steps=10)
        await worker.start(job_id)
        for step in range(1, 10):
            await advance(worker, job_id, step)
        await worker.finish(job_id, png("red", SIZE))
        first, second, last = await task

    facts = {"size": "64x48", "quality": "auto", "background": "auto"}
    assert [event["type"] for event in (first, second)] == ["image_edit.partial_image"] * 2
    assert [event["partial_image_index"] for event in (first, second)] == [0, 1]
    assert (first["b64_json"], first["output_format"]) == (PREVIEW, "jpeg")
    assert last["type"] == "image_edit.completed"
    assert base64.b64decode(last["b64_json"]) == png("red", SIZE)
    assert (last["output_format"], last["safety_identifier"], last["job_id"]) == ("png", "user-1", job_id)
    assert last["usage"]["total_tokens"] == 0
    assert all(facts.items() <= event.items() and event["created_at"] > 0 for event in (first, second, last))


async def test_without_a_wish_there_are_no_previews(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """Images come in order, whichever ends first."""
    async with streaming(client, n=2) as task:
        one, two = await submit(bus, 2)
        await worker.queue(two)
        await advance(worker, two, 1)
        await worker.finish(two, png("blue", SIZE))
        await worker.finish(one, png("red", SIZE))
        events = await task

    assert [event["type"] for event in events] == ["image_edit.completed"] * 2
    assert [base64.b64decode(event["b64_json"]) for event in events] == [png("red", SIZE), png("blue", SIZE)]


async def test_a_failure_follows_the_results(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """A client ends at an error, so it has all results by then."""
    async with streaming(client, n=2) as task:
        one, two = await submit(bus, 2)
        await worker.fail(one, "The engine could not finish this job.")
        await worker.finish(two, png("blue", SIZE))
        done, error = await task

    assert (done["type"], done["job_id"]) == ("image_edit.completed", two)
    assert error == {
        "error": {
            "message": "Image 1 of 2: The engine could not finish this job.",
            "type": "server_error", "param": None, "code": "engine_failed",
        }
    }  # fmt: skip


async def test_what_cannot_be_obeyed_is_refused_before_the_stream(client: Client) -> None:
    """With a status, not with an event."""
    answer = await send(client, stream="true", n=11)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"


async def test_a_photo_that_stays_as_it_is_needs_no_job(client: Client) -> None:
    """It is completed at once."""
    async with streaming(client, mask=alpha_mask(box=None)) as task:
        (event,) = await task

    assert (event["type"], event["job_id"]) == ("image_edit.completed", None)


async def test_who_hangs_up_cancels_the_jobs(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """The one that is streamed and the one that waits."""
    async with client.stream("POST", PATH, files=parts(stream="true", n=2)) as answer:
        ids = await submit(bus, 2)
        await worker.queue(ids[0])
        assert answer.status_code == 200

    for job_id in ids:
        await wait_until(partial(worker.ends, job_id), "the job has ended")
        assert await worker.ends(job_id) == ["cancelled"]


async def test_a_stopping_gateway_says_so(
    nats_url: str, bus: Bus, stream_settings: StreamSettings, worker: WorkerByHand
) -> None:
    """The client repeats the edit, so the job is cancelled."""
    async with AsyncExitStack() as before, asyncio.TaskGroup() as group:
        short = await before.enter_async_context(gateway(NatsSettings(url=nats_url), stream_settings, drain_s=0.1))
        async with Client(short.port) as client:
            task = group.create_task(send(client, stream="true"), name="edit")
            (job_id,) = await submit(bus)
            await worker.queue(job_id)
            await before.aclose()
            answer = await task

    assert "restarting" in answer.text
    assert await worker.ends(job_id) == ["cancelled"]
