"""Jobs of /api through the gateway, a real job manager and a real worker."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from shared.image_codec import probe
from shared.settings import NatsSettings
from tests.gateway import WorkerByHand, b64, edit, event_of, gateway, mask_png, png
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from services.stack.nats_server import NatsServer
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.running import Desk


@pytest.fixture
async def client(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[Client]:
    """Provide a gateway with a queue limit of three jobs a user and ten in total."""
    assert bus.is_connected
    limits = {"queue_limit_per_user": 3, "queue_limit_total": 10}
    async with gateway(NatsSettings(url=nats_url), stream_settings, **limits) as client:
        yield client


async def words(client: Client, task: str) -> list[str]:
    """Return the status words of a whole stream."""
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        return [event_of(chunk)["status"] for chunk in await stream.rest() if chunk.startswith(b"data")]


# --- whole jobs ---------------------------------------------------------------------------------------------------


async def test_an_edit_comes_back_at_the_uploads_size(client: Client, desk: Desk) -> None:
    """The edit passes the log, the queue, the worker and the image store."""
    photo = png("olive", (200, 150))
    async with desk.manager(), desk.worker("classical"):
        task = await client.submit(input_image=b64(photo), conditional_images=[b64(mask_png((100, 75)))])
        story = await words(client, task)
        picture = (await client.get(f"/api/generate/result-image/{task}")).content
    info = probe(picture)

    assert story[-1] == "done"
    assert (info.width, info.height, info.content_type) == (200, 150, "image/png")


async def test_results_wait_for_a_job_that_still_runs(client: Client, desk: Desk) -> None:
    """A request before the job's end is answered at the end."""
    async with desk.manager():
        task = await client.submit(prompt=script(3))
        early = asyncio.gather(*(client.get(f"/api/generate/{what}/{task}") for what in ("result", "result-image")))
        async with desk.worker():
            answers = await early

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_a_cancel_stops_a_running_job(client: Client, desk: Desk) -> None:
    """The stream ends, the worker stops at its next step, and the job stays cancelled."""
    async with desk.manager(), desk.worker():
        task = await client.submit(prompt=script(3600, 20))
        await desk.started(task)
        following = asyncio.create_task(words(client, task), name="follow")
        answer = await client.post(f"/api/generate/async/cancel/{task}")
        story = await following
        after = await client.submit(prompt=script(1))
        await desk.done(after)

    assert answer.status_code == 200
    assert story[-1] == "cancelled"
    assert (await desk.story(task))[-1] == "cancelled"
    assert await desk.step(task) < 3600


async def test_all_who_follow_a_job_see_it_end(client: Client, desk: Desk) -> None:
    """Followers that start early, in the middle and late."""
    async with desk.manager():
        task = await client.submit(prompt=script(5, 5))
        async with asyncio.TaskGroup() as group, desk.worker():
            early = [group.create_task(words(client, task), name="early") for _ in range(5)]
            await desk.started(task)
            middle = group.create_task(words(client, task), name="middle")
            await desk.done(task)
            late = group.create_task(words(client, task), name="late")

    assert all(follower.result()[-1] == "done" for follower in [*early, middle, late])


async def test_a_job_from_elsewhere_is_known_to_an_open_gateway(client: Client, desk: Desk) -> None:
    """The job runs, so the one owner can follow and cancel it."""
    await desk.submit("j1", user="somebody-else")
    status = await client.get("/api/generate/status/j1")
    cancelled = await client.post("/api/generate/async/cancel/j1")

    assert (status.status_code, status.json()["status"]) == (200, "queued")
    assert cancelled.status_code == 200
    assert (await words(client, "j1"))[-1] == "cancelled"


# --- a full queue -------------------------------------------------------------------------------------------------


async def test_a_full_queue_is_429_and_stores_nothing(client: Client, desk: Desk, bus: Bus) -> None:
    """Until a worker starts a job."""
    tasks = [await client.submit(prompt=script(1)) for _ in range(3)]
    before = await bus.subjects_in("OBJ_inputs", ">")
    refused = await client.post("/api/generate/async", json=edit(input_image=b64(png("pink"))))
    after = await bus.subjects_in("OBJ_inputs", ">")
    async with desk.manager(), desk.worker():
        for task in tasks:
            await desk.done(task)
        accepted: list[str] = []

        async def again() -> bool:
            """Wait: the gateway receives a terminal event a moment after it is stored."""
            answer = await client.post("/api/generate/async", json=edit(prompt=script(1)))
            accepted.extend([answer.json()["task_id"]] if answer.is_success else [])
            return answer.is_success

        await wait_until(again, "there is room")
        await desk.done(accepted[0])

    assert (refused.status_code, refused.json()) == (
        429, {"detail": "You have 3 jobs waiting; please wait until some of them have finished."}
    )  # fmt: skip
    assert int(refused.headers["retry-after"]) > 0
    assert before == after


async def test_a_cancelled_job_makes_room(client: Client) -> None:
    """Its place is free at once."""
    tasks = [await client.submit() for _ in range(3)]
    await client.post(f"/api/generate/async/cancel/{tasks[0]}")

    async def accepted() -> bool:
        return (await client.post("/api/generate/async", json=edit())).status_code == 200

    await wait_until(accepted, "there is room again")


async def test_jobs_that_waited_before_the_gateway_came_are_counted(
    nats_url: str, stream_settings: StreamSettings, desk: Desk
) -> None:
    """The job manager reports them. The jobs accepted before the report are fewer than the limit."""
    limit = 200
    async with desk.manager():
        for number in range(limit):
            await desk.submit(f"j{number}", user="local")
        async with gateway(NatsSettings(url=nats_url), stream_settings, queue_limit_per_user=limit) as client:
            statuses = [await _submit(client)]
            while statuses[-1] == 200:
                statuses.append(await _submit(client))

    assert statuses[-1] == 429
    assert len(statuses) < limit


async def _submit(client: Client) -> int:
    return (await client.post("/api/generate/async", json=edit())).status_code


# --- a broker that goes away --------------------------------------------------------------------------------------


async def test_a_stream_survives_a_crash_of_the_broker(
    client: Client, nats_server: NatsServer, bus: Bus, images: NatsImageStore
) -> None:
    """The stream has the events before and after the crash without a gap."""
    worker = WorkerByHand(bus, images)
    task = await client.submit()
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        await worker.start(task)
        while await stream.status_word() != "loading_pipeline":
            pass
        await nats_server.kill()
        await wait_until(lambda: not bus.up.is_set(), "the connection is lost")
        await nats_server.start()
        await bus.up.wait()
        await worker.step(task, 1)
        await worker.finish(task)
        story = [event_of(chunk)["status"] for chunk in await stream.rest() if chunk.startswith(b"data")]

    assert story[-1] == "done"


async def test_without_a_broker_everything_says_so(client: Client, nats_server: NatsServer) -> None:
    """Each route answers 503 at once in words for users; the gateway runs on and reconnects."""
    await nats_server.stop()
    await wait_until(lambda: _is(client, "degraded"), "the gateway has noticed")
    answers = [
        await client.post("/api/generate/async", json=edit()),
        await client.get("/api/generate/status/x"),
        await client.post("/api/smart-mask", json={"image": b64(png()), "auto_detect": True}),
        await client.post("/api/image-utils/extract-object", json={"image": b64(png()), "mask": b64(mask_png())}),
    ]
    cancel = await client.post("/api/smart-mask/cancel/x")
    system = (await client.get("/api/system/health")).json()
    await nats_server.start()
    await wait_until(lambda: _is(client, "healthy"), "the gateway is back")
    accepted = await client.post("/api/generate/async", json=edit())

    assert [answer.status_code for answer in answers] == [503] * 4
    said = {answer.json()["detail"] for answer in answers}
    assert said == {"The service is not available at the moment, please try again."}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    assert cancel.status_code == 200
    assert system["status"] == "degraded"
    assert accepted.status_code == 200


async def _is(client: Client, word: str) -> bool:
    return bool((await client.get("/api/health")).json()["status"] == word)


async def test_a_broker_that_lost_everything_is_set_up_again(
    client: Client, desk: Desk, nats_server: NatsServer, tmp_path: Path
) -> None:
    """The job manager declares all streams on an empty broker, and the gateway waits for them."""
    async with desk.manager():
        await nats_server.stop()
        await wait_until(lambda: _is(client, "degraded"), "the gateway has noticed")
        shutil.rmtree(tmp_path / "nats")
        await nats_server.start()
        await wait_until(lambda: _is(client, "healthy"), "the gateway is back")
        accepted = await client.post("/api/generate/async", json=edit())

    assert accepted.status_code == 200, accepted.text
