"""Whole jobs, from the log to the result: each has exactly one end, and its events are in order."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared import job_events, rpc, subjects
from shared.image_codec import decode_photo, encode_png
from shared.messages import Cancelled, JobRecord, JobState, Progress, Queued, QueueQuery, QueueReport, Task
from shared.topology import JOB_EV, JOB_LOG, JOB_Q, JOBS
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from services.stack.nats_server import NatsServer
    from shared.bus import Bus
    from shared.image_codec import Grey
    from shared.image_store import NatsImageStore
    from tests.running import Desk

CAT = (Path(__file__).parents[3] / "services/gateway/static/samples/cat.jpg").read_bytes()


def square() -> Grey:
    """Return a mask of the size of the cat with a square in it."""
    mask = np.zeros((300, 451), np.uint8)
    mask[100:200, 150:250] = 255
    return mask


# --- one job ------------------------------------------------------------------------------------------------------


async def test_a_job_is_queued_started_and_done(desk: Desk) -> None:
    """Its events are in order, and the last one is the end."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(3))
        end = await desk.done("j1")

    assert await desk.story("j1") == ["queued", "started", "progress", "done"]
    assert (end.worker, end.engine, end.attempt) == ("w1", "scripted", 1)


async def test_each_step_is_published_once(desk: Desk) -> None:
    """All steps are published from the first to the last, with the finished fraction."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(4))
        await desk.done("j1")
    steps = [event for event in await desk.events("j1") if isinstance(event, Progress)]

    assert [(event.step, event.total_steps, event.fraction) for event in steps] == [
        (1, 4, 0.25), (2, 4, 0.5), (3, 4, 0.75), (4, 4, 1.0)
    ]  # fmt: skip


async def test_the_result_is_stored(desk: Desk, images: NatsImageStore) -> None:
    """Under its hash, as a PNG of the size of the upload."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        end = await desk.done("j1")
    data = await images.get("results", end.result.sha256)

    assert (end.result.content_type, end.result.width, end.result.height) == ("image/png", 451, 300)
    assert np.array_equal(decode_photo(data).rgb, decode_photo(CAT).rgb)


async def test_outside_the_mask_nothing_changes(desk: Desk, images: NatsImageStore) -> None:
    """Byte for byte, at the full size of the upload; inside the mask it does."""
    mask = square()
    ref = await images.put("inputs", encode_png(mask))
    async with desk.manager(), desk.worker():
        await desk.submit("j1", task=Task.REMOVAL, mask=ref.sha256)
        end = await desk.done("j1")
    before, after = decode_photo(CAT).rgb, decode_photo(await images.get("results", end.result.sha256)).rgb

    assert end.changed_outside_px == 0
    assert np.array_equal(before[mask == 0], after[mask == 0])
    assert not np.array_equal(before[mask > 0], after[mask > 0])


async def test_outside_the_mask_transparency_stays(desk: Desk, images: NatsImageStore) -> None:
    """Bit for bit, also of colours that nobody sees; inside the mask the result is opaque."""
    mask, photo = square(), np.random.default_rng(5).integers(0, 256, (300, 451, 4), np.uint8)
    upload, ref = await images.put("inputs", encode_png(photo)), await images.put("inputs", encode_png(mask))
    async with desk.manager(), desk.worker():
        await desk.submit("j1", task=Task.REMOVAL, image=upload.sha256, mask=ref.sha256)
        end = await desk.done("j1")
    after = decode_photo(await images.get("results", end.result.sha256), with_alpha=True).rgba

    assert after is not None
    assert end.changed_outside_px == 0
    assert np.array_equal(photo[mask == 0], after[mask == 0])
    assert (after[mask > 0][:, 3] == 255).all()


async def test_a_mask_of_another_size_is_fitted(desk: Desk, images: NatsImageStore) -> None:
    """A browser may draw on a smaller canvas."""
    ref = await images.put("inputs", encode_png(square()[::2, ::2].copy()))
    async with desk.manager(), desk.worker():
        await desk.submit("j1", task=Task.REMOVAL, mask=ref.sha256)
        end = await desk.done("j1")

    assert (end.result.width, end.result.height, end.changed_outside_px) == (451, 300, 0)


# --- written by hand ----------------------------------------------------------------------------------------------


async def test_a_hand_written_job_runs(desk: Desk) -> None:
    """`nats pub` with a task and an image is enough."""
    async with desk.manager(), desk.worker():
        await desk.submit_raw("j1", b'{"task":"white-balance","image":"%s"}' % desk.photo.encode())
        end = await desk.done("j1")

    assert end.seed == 42


async def test_a_job_runs_on_an_image_that_was_stored_by_hand(desk: Desk) -> None:
    """`nats obj put inputs cat.png --name <sha256>`, then `nats pub`: no gateway is needed."""
    data = encode_png(decode_photo(CAT).rgb[::2, ::2].copy())
    name = hashlib.sha256(data).hexdigest()
    await (await desk.bus.client.jetstream().object_store("inputs")).put(name, data)
    async with desk.manager(), desk.worker():
        await desk.submit_raw("j1", b'{"task":"white-balance","image":"%s"}' % name.encode())
        end = await desk.done("j1")

    assert (end.result.width, end.result.height) == (226, 150)


async def test_a_job_that_is_logged_again_is_a_new_job(desk: Desk) -> None:
    """It names the job that it replays, and has the same result."""
    body = json.dumps({"task": "white-balance", "image": desk.photo, "seed": 7}).encode()
    async with desk.manager(), desk.worker():
        await desk.submit_raw("j1", body)
        first = await desk.done("j1")
        seq = await desk.submit_raw("j1", body)
        second = await desk.done(f"j1-r{seq}")
    queued = (await desk.events(f"j1-r{seq}"))[0]

    assert isinstance(queued, Queued)
    assert (queued.replay_of, queued.log_seq) == ("j1", seq)
    assert (first.result, first.seed) == (second.result, second.seed)
    assert await desk.story("j1") == ["queued", "started", "progress", "done"], "the first job has no new events"


async def test_a_replay_of_a_long_id_is_still_an_id(desk: Desk) -> None:
    """An id has 64 characters at most, and the number at its end makes it unique."""
    long = "j" * 64
    async with desk.manager(), desk.worker():
        await desk.submit(long)
        seq = await desk.submit(long)

        await desk.done("j" * (64 - len(f"-r{seq}")) + f"-r{seq}")


# --- records of jobs ---------------------------------------------------------------------------------------


async def test_a_job_is_known_as_soon_as_it_is_logged(desk: Desk) -> None:
    """Before any service has received it."""
    await desk.submit("j1", user="u7", steps=20)

    record = await job_events.load_record(desk.bus, "j1")

    assert record is not None
    assert (record.state, record.user, record.task, record.total_steps) == ("queued", "u7", "white-balance", 20)


async def test_an_unknown_job_is_not_known(bus: Bus) -> None:
    """There is no record for it."""
    assert await job_events.load_record(bus, "nobody") is None


async def test_the_view_agrees_with_the_events(desk: Desk) -> None:
    """One record for each job, under its user, for any key-value client."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(4), user="u7")
        await desk.done("j1")
        await wait_until(lambda: is_viewed(desk.bus, "u7", "j1", JobState.DONE), "the view shows the end")
    loaded = await job_events.load_record(desk.bus, "j1")
    stored = await desk.bus.last(JOBS, subjects.job_record("u7", "j1"))

    assert stored is not None
    assert loaded is not None
    record = JobRecord.model_validate_json(stored.data)
    assert record == loaded
    assert (record.phase, record.fraction, record.step, record.total_steps) == ("processing", 1.0, 4, 4)


async def test_only_a_lost_view_is_made_again(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The first start has nothing to make again; a lost view is made from the events, which is logged."""
    caplog.set_level(logging.INFO)
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.done("j1")
        await wait_until(lambda: is_viewed(desk.bus, "u1", "j1", JobState.DONE), "the view shows the end")
    first = [record.getMessage() for record in caplog.records]
    await desk.bus.purge(JOBS, subjects.ALL_RECORDS)
    async with desk.manager():
        await wait_until(lambda: is_viewed(desk.bus, "u1", "j1", JobState.DONE), "the view is made again")

    assert "jobs.view-reset" not in first
    assert "jobs.view-reset" in [record.getMessage() for record in caplog.records]


async def test_a_job_is_known_after_its_events_have_expired(desk: Desk) -> None:
    """The view outlives the events."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        end = await desk.done("j1")
        await wait_until(lambda: is_viewed(desk.bus, "u1", "j1", JobState.DONE), "the view shows the end")
    await desk.bus.purge(JOB_EV, subjects.ALL_EVENTS)

    record = await job_events.load_record(desk.bus, "j1")

    assert record is not None
    assert record.ended == end


async def is_viewed(bus: Bus, user: str, job_id: str, state: JobState) -> bool:
    stored = await bus.last(JOBS, subjects.job_record(user, job_id))
    return stored is not None and JobRecord.model_validate_json(stored.data).state is state


# --- many jobs ----------------------------------------------------------------------------------------------------


async def test_interactive_jobs_go_before_batches(desk: Desk) -> None:
    """An interactive job that came last starts before the waiting batch."""
    async with desk.manager():
        for number in range(3):
            await desk.submit(f"b{number}", job_class="batch")
        await desk.submit("i1", job_class="interactive")
        await wait_until(lambda: has_queued(desk.bus, 4), "all are queued")
        async with desk.worker():
            ends = {job_id: await end_seq(desk, job_id) for job_id in ("i1", "b0", "b1", "b2")}

    assert sorted(ends, key=lambda job_id: ends[job_id]) == ["i1", "b0", "b1", "b2"]


async def test_a_worker_stays_with_its_task(desk: Desk) -> None:
    """Its adapter is loaded: of two waiting jobs the one with that task goes first, although it came last."""
    removal = {"task": Task.REMOVAL, "mask": desk.photo}
    async with desk.manager(), desk.worker():
        await desk.submit("r0", script(3600, interval_ms=50), **removal)
        await desk.started("r0")
        await desk.submit("w1")
        await desk.submit("r1", **removal)
        await wait_until(lambda: has_queued(desk.bus, 3), "both wait behind the one that runs")
        await desk.cancel("r0")
        ends = {job_id: await end_seq(desk, job_id) for job_id in ("w1", "r1")}

    assert sorted(ends, key=lambda job_id: ends[job_id]) == ["r1", "w1"]


async def test_a_user_with_many_jobs_does_not_block_another(desk: Desk) -> None:
    """After thirty jobs of one user, the job of another is not the last."""
    async with desk.manager():
        for number in range(30):
            await desk.submit(f"many{number}", user="greedy")
        await desk.submit("only", user="modest")
        async with desk.worker():
            only = await end_seq(desk, "only")
            many = [await end_seq(desk, f"many{number}") for number in range(30)]

    assert sum(seq < only for seq in many) < 25


async def test_workers_share_the_jobs(desk: Desk) -> None:
    """Each job runs once, on one of them."""
    async with desk.manager(), desk.worker(name="w1"), desk.worker(name="w2"):
        for number in range(12):
            await desk.submit(f"j{number}", script(2, interval_ms=10))
        ends = [await desk.done(f"j{number}") for number in range(12)]

    assert {end.worker for end in ends} == {"w1", "w2"}
    assert [await desk.attempts(f"j{number}") for number in range(12)] == [[1]] * 12


async def test_jobs_wait_for_the_manager(desk: Desk) -> None:
    """Submissions that were logged without it run once it is back."""
    for number in range(5):
        await desk.submit(f"j{number}")

    async with desk.manager(), desk.worker():
        ends = [await desk.done(f"j{number}") for number in range(5)]

    assert [end.attempt for end in ends] == [1] * 5


async def test_the_manager_is_not_in_the_way_of_a_result(desk: Desk) -> None:
    """Queued jobs run without it, and none runs twice after its restart."""
    async with desk.worker():
        async with desk.manager():
            for number in range(20):
                await desk.submit(f"j{number}", script(1, interval_ms=10))
            await desk.done("j0")
        async with desk.manager():
            for number in range(20):
                await desk.done(f"j{number}")

    assert [await desk.attempts(f"j{number}") for number in range(20)] == [[1]] * 20
    await wait_until(lambda: has_queued(desk.bus, 0), "the queue is empty")


async def test_a_job_outlives_its_broker(desk: Desk, nats_server: NatsServer) -> None:
    """SIGKILL and a restart of the broker: the running job ends in its first attempt, and the next job runs."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(60, interval_ms=50))  # longer than a restart, on a loaded machine too
        await desk.started("j1")
        before = desk.bus.connects
        await nats_server.kill()
        await nats_server.start()
        await desk.bus.next_connect(before)
        end = await desk.done("j1")
        await desk.submit("j2")
        await desk.done("j2")

    assert end.attempt == 1


async def test_everything_submitted_at_once_ends_once(desk: Desk) -> None:
    """Sixty jobs of seven users, two workers: sixty ends, an empty queue, nothing unsettled in the log."""
    async with desk.manager(), desk.worker(name="w1"), desk.worker(name="w2"):
        await asyncio.gather(*(desk.submit(f"j{number}", script(1), user=f"u{number % 7}") for number in range(60)))
        for number in range(60):
            await desk.done(f"j{number}")

        await wait_until(lambda: is_settled(desk.bus), "the log is settled")

    await wait_until(lambda: has_queued(desk.bus, 0), "the queue is empty")


async def test_waiting_jobs_are_reported(desk: Desk) -> None:
    """By user, those in JOB_Q and those on the board behind it, but no running job."""
    async with desk.manager(lookahead=2), desk.worker():
        await desk.submit("running", script(3600, interval_ms=50))
        await desk.started("running")
        for number in range(4):
            await desk.submit(f"j{number}", user="u1")
        await desk.submit("b1", user="u2", job_class="batch")

        async def is_reported() -> bool:
            report = await rpc.call(desk.bus, subjects.JOB_QUEUE, QueueQuery(), QueueReport, timeout_s=5)
            return report.queued == {"u1": ["j0", "j1", "j2", "j3"], "u2": ["b1"]}

        await wait_until(is_reported, "all waiting jobs are reported")
        await desk.bus.publish_first(JOB_EV, subjects.end("running"), Cancelled(job_id="running"), msg_id="enough")


async def test_a_running_job_does_not_keep_others_from_the_queue(desk: Desk) -> None:
    """A new manager does not count a running job as waiting, so the second worker gets work at once."""
    async with desk.worker(name="w1"):
        async with desk.manager(lookahead=1):
            await desk.submit("long", script(3600, interval_ms=50))
            await desk.started("long")
        async with desk.manager(lookahead=1), desk.worker(name="w2"):
            await desk.submit("short")
            await desk.done("short")
            still_running = await desk.bus.last(JOB_EV, subjects.end("long")) is None
            await desk.bus.publish_first(JOB_EV, subjects.end("long"), Cancelled(job_id="long"), msg_id="enough")

    assert still_running


async def has_queued(bus: Bus, count: int) -> bool:
    return len(await bus.subjects_in(JOB_Q, subjects.ALL_QUEUED)) == count


async def is_settled(bus: Bus) -> bool:
    consumers = await bus.client.jetstream().consumers_info(JOB_LOG)
    return all(consumer.num_ack_pending == consumer.num_pending == 0 for consumer in consumers)


async def end_seq(desk: Desk, job_id: str) -> int:
    """Wait for the end of a job and return its sequence among all events."""
    await desk.done(job_id)
    end = await desk.bus.last(JOB_EV, subjects.end(job_id))
    assert end is not None
    return end.seq


@pytest.mark.parametrize("steps", [1, 40])
async def test_progress_is_never_ahead_of_the_end(desk: Desk, steps: int) -> None:
    """For any number of steps, the end is stored after all of them."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(steps))
        await desk.done("j1")
    stored = await desk.stored_events("j1")

    assert stored[-1].subject == subjects.end("j1")
    assert len(stored) == steps + 3
