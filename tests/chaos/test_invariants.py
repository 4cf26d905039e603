"""Each promise of ARCHITECTURE.md that a failure could break, tested with that failure alone."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import httpx
import pytest

from services.stack.nats_server import HOST
from services.stack.process import Process, ProcessGroup
from shared import declaring, subjects, topology
from shared.deliveries import pull, redeliver_from
from shared.errors import EXIT_HUNG, Busy
from shared.messages import JobClass, JobRecord, RedriveRequest, ReplayReply, Started, Task
from shared.rpc import call
from shared.settings import StreamSettings
from shared.topology import DISPATCHERS, JOB_LOG, JOB_Q, JOBS, bucket_stream, worker_consumer
from tests.chaos.faults import engine
from tests.chaos.load.orders import bad_bodies
from tests.chaos.load.pictures import noise
from tests.ports import free_port
from tests.running import script
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.js.api import StreamConfig

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from tests.chaos.verdict.ledger import Story
    from tests.running import Desk

CheckAllKept: TypeAlias = "Callable[[], Awaitable[dict[str, Story]]]"
HOSTILE = "tests.chaos.faults.engine:Hostile"
short_leases = pytest.mark.parametrize(
    "stream_settings", [StreamSettings(lease_s=engine.LEASE_S, picture_bytes=1024**3)], ids=["short leases"]
)


async def change(bus: Bus, stream: str, **fields: object) -> None:
    """Change a stream without the system."""
    jetstream = bus.client.jetstream()
    live: StreamConfig = (await jetstream.stream_info(stream)).config
    await jetstream.update_stream(replace(live, **fields))  # type: ignore[arg-type]


async def test_a_log_that_is_delivered_twice_runs_nothing_twice(desk: Desk, check_all_kept: CheckAllKept) -> None:
    """One job has ended, one runs, one waits: the dispatcher receives all of them again."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.done("j1")
        await desk.submit("j2", script(20, interval_ms=40))
        await desk.submit("j3")
        await desk.started("j2")
        await redeliver_from(desk.bus, JOB_LOG, DISPATCHERS[JobClass.INTERACTIVE], 1)
        await desk.done("j3")
        await check_all_kept()

    assert [await desk.attempts(job) for job in ("j1", "j2", "j3")] == [[1], [1], [1]]


async def test_a_log_that_outlived_its_events_runs_nothing_again(desk: Desk) -> None:
    """Events live for a day, the log for a week: the view still has the end of the job."""
    async with desk.manager(), desk.worker():
        await change(desk.bus, JOB_Q, duplicate_window=0.1)  # for this time the broker itself would reject a duplicate
        await desk.submit("j1")
        await desk.done("j1")
        await desk.submit("later", script(10, interval_ms=40))
        await desk.done("later")

        async def is_viewed() -> bool:
            stored = await desk.bus.last(JOBS, subjects.job_record("u1", "j1"))
            return stored is not None and JobRecord.model_validate_json(stored.data).ended is not None

        await wait_until(is_viewed, "the view shows the end")
        await desk.bus.purge(topology.JOB_EV, subjects.events_of("j1"))
        await redeliver_from(desk.bus, JOB_LOG, DISPATCHERS[JobClass.INTERACTIVE], 1)
        await desk.submit("j2")
        await desk.done("j2")

    assert await desk.events("j1") == []


@short_leases
async def test_a_frozen_worker_wakes_up_to_a_job_that_is_done(desk: Desk, check_all_kept: CheckAllKept) -> None:
    """It freezes past its lease, and another worker runs the job. Its own result is rejected, and it continues."""
    zombie = {"A100WORKER_NAME": "zombie", "CHAOS_FREEZE_S": "8"}
    async with desk.manager(), desk.worker_process(HOSTILE, **zombie):
        await desk.submit("j1", engine.FREEZE)
        await wait_until(lambda: desk.attempts("j1"), "the zombie has the job")
        async with desk.worker(name="heir"):
            first = await desk.done("j1")
        await desk.submit("j2")
        second = await desk.done("j2")
        await check_all_kept()

    assert (first.worker, second.worker) == ("heir", "zombie")
    assert await desk.attempts("j1") == [1, 2]


@pytest.mark.parametrize("stream_settings", [StreamSettings(lease_s=0.7, max_handbacks=0, picture_bytes=1024**3)])
async def test_a_job_without_any_acknowledgement_is_dead_lettered(desk: Desk, check_all_kept: CheckAllKept) -> None:
    """Three workers take it and have no further event."""
    async with desk.manager():
        await desk.submit("j1")
        for attempt in (1, 2, 3):

            async def take_job(attempt: int = attempt) -> bool:
                delivery = await pull(desk.bus, JOB_Q, worker_consumer(JobClass.INTERACTIVE, Task.WHITE_BALANCE))
                return delivery is not None and delivery.attempt == attempt

            await wait_until(take_job, f"it is delivered for the {attempt}. time")
        async with desk.worker():  # the broker counts deliveries when a worker pulls
            end = await desk.failed("j1")
            stories = await check_all_kept()

    assert (end.code, end.attempt) == ("max_deliver", 3)
    assert stories["j1"].letters == [subjects.dead_letter("max_deliver", "j1")]


@short_leases
async def test_a_job_that_kills_its_workers_harms_no_other(desk: Desk, check_all_kept: CheckAllKept) -> None:
    """It kills three of them; a fourth one runs the next job."""
    async with desk.manager():
        await desk.submit("poison", engine.DIE)
        await desk.submit("j2")
        for _ in range(3):
            async with desk.worker_process(HOSTILE) as victim:
                await victim.wait()
        async with desk.worker():
            end = await desk.failed("poison")
            await desk.done("j2")
            await check_all_kept()

    assert end.code == "max_deliver"


async def test_a_job_that_hangs_its_engines_harms_no_other(desk: Desk, check_all_kept: CheckAllKept) -> None:
    """Each of three workers hands it back and ends itself; the next job is done."""
    async with desk.manager():
        await desk.submit("hung", engine.HANG)
        await desk.submit("j2")
        codes = []
        for _ in range(3):
            async with desk.worker_process(HOSTILE, A100WORKER_SILENCE_S="3") as victim:
                codes.append(await victim.wait())
        async with desk.worker():
            end = await desk.failed("hung")
            await desk.done("j2")
            stories = await check_all_kept()

    assert (codes, end.code, end.attempt) == ([EXIT_HUNG] * 3, "engine_hung", 3)
    assert stories["hung"].letters == [subjects.dead_letter("engine_hung", "hung")]


async def test_a_worker_that_hangs_in_a_cancelled_job_ends_too(desk: Desk, check_all_kept: CheckAllKept) -> None:
    """The job ended at once; a hung worker cannot run another one."""
    async with desk.manager(), desk.worker_process(HOSTILE, A100WORKER_SILENCE_S="1") as victim:
        await desk.submit("hung", engine.HANG)
        await wait_until(lambda: desk.attempts("hung"), "it has begun")
        await desk.cancel("hung")
        code = await victim.wait()
        await check_all_kept()

    assert code == EXIT_HUNG
    assert await desk.attempts("hung") == [1]


async def test_a_result_that_cannot_be_stored_whole_is_not_there(desk: Desk, images: NatsImageStore) -> None:
    """The store fills up during the upload: no partial image, and a dead letter, which succeeds with free space."""
    desk.photo = (await images.put("inputs", noise(700))).sha256
    results = bucket_stream("results")
    async with desk.manager(), desk.worker():
        await change(desk.bus, results, max_bytes=1024**2)  # the image has 1.5 MB, in chunks of 0.5 MB
        await desk.submit("j1")
        end = await desk.failed("j1")
        stored = await desk.bus.subjects_in(results, subjects.object_entry("results", "*"))
        await change(desk.bus, results, max_bytes=1024**3)
        request = RedriveRequest(job_id="j1")
        (again,) = (await call(desk.bus, subjects.JOB_REDRIVE, request, ReplayReply, timeout_s=TIMEOUT_S)).jobs
        done = await desk.done(str(again.new_job_id))

    assert (end.code, stored) == ("busy", [])
    assert len(await images.get("results", done.result.sha256)) == done.result.size_bytes


async def test_a_full_store_refuses_uploads_and_runs_what_it_has(
    desk: Desk, images: NatsImageStore, check_all_kept: CheckAllKept
) -> None:
    """An upload gets "busy"; a job with a stored image is done."""
    async with desk.manager(), desk.worker():
        await change(desk.bus, bucket_stream("inputs"), max_bytes=4096)
        with pytest.raises(Busy):
            await images.put("inputs", noise(64))
        await desk.submit("j1")
        await desk.done("j1")
        await check_all_kept()


async def test_a_full_view_stops_no_job(desk: Desk) -> None:
    """It holds two records at most and drops the oldest."""
    async with desk.manager(), desk.worker():
        await change(desk.bus, JOBS, max_msgs=2)
        for number in range(5):
            await desk.submit(f"j{number}")
        for number in range(5):
            await desk.done(f"j{number}")

        async def is_viewed() -> bool:
            return await desk.bus.last(JOBS, subjects.job_record("u1", "j4")) is not None

        await wait_until(is_viewed, "the newest job is in the view")
        records = await desk.bus.subjects_in(JOBS, subjects.ALL_RECORDS)

    assert len(records) == 2


@pytest.mark.parametrize("again", ["by the manager", "by somebody else"])
async def test_a_view_that_is_lost_is_made_again(
    desk: Desk, again: str, stream_settings: StreamSettings, check_all_kept: CheckAllKept
) -> None:
    """With the records of an ended, a running and a later job, regardless of the process that declares the bucket."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.done("j1")
        await desk.submit("j2", script(20, interval_ms=40))
        await desk.started("j2")
        await desk.bus.client.jetstream().delete_stream(JOBS)
        if again == "by somebody else":
            await declaring.declare_streams(desk.bus, stream_settings)
        await desk.submit("j3")
        await desk.done("j3")

        async def complete() -> bool:
            return len(await desk.bus.history(JOBS, subjects.ALL_RECORDS)) == 3

        await wait_until(complete, "the view is complete")
        stories = await check_all_kept()

    assert [stories[job].end for job in ("j1", "j2", "j3")] == ["done"] * 3


@pytest.mark.parametrize("lost", ["at once", "after a restart"])
async def test_a_view_of_one_record_is_made_again(desk: Desk, lost: str, stream_settings: StreamSettings) -> None:
    """The new bucket's first revision is no smaller than the last one of the old, also after a restart."""

    async def viewed() -> set[str]:
        return {stored.subject.rpartition(".")[2] for stored in await desk.bus.history(JOBS, subjects.ALL_RECORDS)}

    async def has(*names: str) -> None:
        async def is_there() -> bool:
            return await viewed() == set(names)

        await wait_until(is_there, f"the view has {names}")

    async def lose() -> None:
        await desk.bus.client.jetstream().delete_stream(JOBS)
        await declaring.declare_streams(desk.bus, stream_settings)
        await desk.submit("j2")
        await has("j1", "j2")

    async with desk.manager():
        await desk.submit("j1")
        await has("j1")
        if lost == "at once":
            await lose()
    if lost == "after a restart":
        async with desk.manager():
            await lose()


async def test_a_record_that_an_operator_deleted_comes_back_with_the_next_event(
    desk: Desk, check_all_kept: CheckAllKept
) -> None:
    """`nats kv del` leaves a marker in its place, which must not stop the projector."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(20, interval_ms=40))
        await desk.started("j1")
        record = subjects.job_record("u1", "j1")
        await desk.bus.publish(record, b"", headers={"KV-Operation": "DEL"})
        await desk.done("j1")
        await check_all_kept()


@pytest.mark.parametrize("stream", [JOB_LOG, JOB_Q, topology.JOB_EV])
async def test_consumers_that_are_deleted_come_back(desk: Desk, stream: str, check_all_kept: CheckAllKept) -> None:
    """All consumers of a stream, while a job runs and others wait: none is lost, and none runs twice."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(20, interval_ms=40))
        await desk.started("j1")
        jetstream = desk.bus.client.jetstream()
        for consumer in await jetstream.consumers_info(stream):
            await jetstream.delete_consumer(stream, consumer.name)
        await desk.submit("j2")
        await desk.done("j2")
        stories = await check_all_kept()

    assert [story.end for story in stories.values()] == ["done", "done"]


async def test_no_bad_body_stops_the_queue(desk: Desk, check_all_kept: CheckAllKept) -> None:
    """Each body fails at once with its own reason, and the good job behind them is done."""
    bodies = bad_bodies(desk.photo)
    async with desk.manager(), desk.worker():
        for number, body in enumerate(bodies):
            await desk.submit_raw(f"bad-{number}", body)
        await desk.submit("good")
        await desk.done("good")
        stories = await check_all_kept()

    ends = {story.end for job_id, story in stories.items() if job_id != "good"}
    attempts = [event for story in stories.values() for _, event in story.events if isinstance(event, Started)]
    assert ends == {"failed:bad_message"}
    assert len(attempts) == 1


async def test_a_stream_continues_after_the_gateway_died(
    desk: Desk, nats_url: str, stream_settings: StreamSettings, check_all_kept: CheckAllKept
) -> None:
    """The client reopens it and gets the state of the job and then its end."""
    port = free_port()
    environment = {
        "NATS_URL": nats_url,
        "GATEWAY_PORT": str(port),
        "STREAMS_PICTURE_BYTES": str(stream_settings.picture_bytes),
    }
    command = [sys.executable, "-m", "services.gateway"]
    async with (
        ProcessGroup() as group,
        httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=TIMEOUT_S) as http,
        desk.manager(),
        desk.worker(),
    ):

        async def kill() -> None:
            gateway.kill()

        async def cancel() -> None:
            await http.post("/api/generate/async/cancel/j1")

        gateway = Process("gateway", command, group, env=environment, on_line=lambda _: None)
        await gateway.start()
        await wait_until(lambda: answers(http), "the gateway answers")
        await desk.submit("j1", script(3600, interval_ms=50), user="local")
        before: list[str] = []
        with pytest.raises(httpx.RemoteProtocolError):
            await follow(http, "j1", before, at_work=kill)
        await gateway.wait()
        await gateway.start()
        await wait_until(lambda: answers(http), "the gateway answers again")
        after: list[str] = []
        await follow(http, "j1", after, at_work=cancel)
        gateway.terminate()
        await gateway.wait()
        await check_all_kept()

    assert before[-1] == after[0] == "processing"
    assert after[-1] == "cancelled"
    assert await desk.attempts("j1") == [1]


async def answers(http: httpx.AsyncClient) -> bool:
    """Return whether the gateway runs and has its broker."""
    try:
        return bool((await http.get("/api/health")).json()["model_loaded"])
    except (httpx.HTTPError, KeyError, ValueError):
        return False


async def follow(
    http: httpx.AsyncClient, job_id: str, words: list[str], at_work: Callable[[], Awaitable[object]]
) -> None:
    """Collect the states of the stream of a job; call `at_work` at the first sign of work."""
    async with http.stream("GET", f"/api/generate/stream/{job_id}") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                words.append(json.loads(line[5:])["status"])
                if words[-1] == "processing":
                    await at_work()
