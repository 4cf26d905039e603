"""Jobs that cannot run: each ends once, as `failed`, with a complete dead letter; other jobs run on."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from shared import rpc, subjects
from shared.deliveries import pull
from shared.messages import (
    DeadLetter,
    ImageRef,
    JobClass,
    JobRecord,
    JobSubmit,
    JobWork,
    RedriveRequest,
    ReplayReply,
    Task,
)
from shared.settings import StreamSettings
from shared.topology import JOB_DLQ, JOB_LOG, JOB_Q, JOBS, bucket_stream, worker_consumer
from tests.running import script
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from tests.running import Desk

UNKNOWN = "0" * 64


async def letters(bus: Bus) -> list[DeadLetter]:
    """Return all dead letters."""
    return [DeadLetter.model_validate_json(stored.data) for stored in await bus.history(JOB_DLQ, subjects.ALL_DEAD)]


async def the_letter(bus: Bus) -> DeadLetter:
    """Return the only dead letter."""
    (letter,) = await letters(bus)
    return letter


async def all_is_settled(bus: Bus) -> bool:
    """Return whether JOB_Q is empty and every submission in the log is settled."""
    consumers = await bus.client.jetstream().consumers_info(JOB_LOG)
    settled = all(consumer.num_ack_pending == consumer.num_pending == 0 for consumer in consumers)
    return settled and await bus.subjects_in(JOB_Q, subjects.ALL_QUEUED) == []


# --- engines and workers that fail --------------------------------------------------------------------------------


async def test_a_job_that_fails_three_times_is_dead_lettered(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The letter holds the whole job; the error text shows no internals. The log has one line with the reason."""
    async with desk.manager(), desk.worker("tests.fakes:FailingEngine"):
        await desk.submit("j1", "a prompt", seed=7)
        end = await desk.failed("j1")
        await wait_until(lambda: all_is_settled(desk.bus), "nothing is unsettled")
    letter = await the_letter(desk.bus)
    logged = [vars(record) for record in caplog.records if record.getMessage() == "job.dead-lettered"]

    assert await desk.attempts("j1") == [1, 2, 3]
    assert [(line["job_id"], line["reason"]) for line in logged] == [("j1", "engine_failed")]
    assert (end.code, end.message) == ("engine_failed", "The engine could not finish this job.")
    assert (letter.job_id, letter.reason, letter.attempts) == ("j1", "engine_failed", 3)
    assert [(each.number, each.outcome) for each in letter.history] == [(n, "engine_failed") for n in (1, 2, 3)]
    assert all(each.ended_at and each.started_at <= each.ended_at <= letter.at for each in letter.history)
    assert letter.work is not None
    assert (letter.work.submit.prompt, letter.work.submit.seed) == ("a prompt", 7)


@pytest.mark.parametrize("stream_settings", [StreamSettings(lease_s=2.0, max_deliver=2, picture_bytes=1024**3)])
async def test_a_job_that_kills_its_workers_is_dead_lettered(desk: Desk) -> None:
    """After two dead processes the next worker does not start it, and runs the next job."""
    async with (
        desk.manager(),
        desk.worker_process("tests.fakes:DeadlyEngine") as first,
        desk.worker_process("tests.fakes:DeadlyEngine") as second,
    ):
        await desk.submit("j1")
        codes = [await process.wait() for process in (first, second)]
        async with desk.worker():
            end = await desk.failed("j1")
            await desk.submit("j2")
            await desk.done("j2")
    letter = await the_letter(desk.bus)

    assert codes == [9, 9]
    assert await desk.attempts("j1") == [1, 2]
    assert (end.code, letter.reason, letter.attempts) == ("max_deliver", "max_deliver", 2)
    assert [(each.number, each.outcome, each.ended_at) for each in letter.history] == [
        (1, "vanished", None),
        (2, "vanished", None),
    ]
    assert letter.history[0].worker != letter.history[1].worker
    assert letter.work is not None
    assert letter.work.job_id == "j1"


@pytest.mark.parametrize("stream_settings", [StreamSettings(lease_s=0.5, max_handbacks=0, picture_bytes=1024**3)])
async def test_a_job_that_failed_without_a_manager_is_dead_lettered(desk: Desk) -> None:
    """The broker keeps its advisories for the manager."""
    async with desk.manager():
        await desk.submit("j1")
        queue = worker_consumer(JobClass.INTERACTIVE, Task.WHITE_BALANCE)

        async def take_job() -> bool:
            return await pull(desk.bus, JOB_Q, queue) is not None

        for _ in range(2):
            await wait_until(take_job, "the job is taken, and not settled")
    await wait_until(take_job, "the job is taken for the third time")

    async def has_advisory() -> bool:
        await pull(desk.bus, JOB_Q, queue)
        return (await desk.bus.client.jetstream().stream_info("ADVISORY")).state.messages > 0

    await wait_until(has_advisory, "the broker has stopped delivering it")
    async with desk.manager():
        end = await desk.failed("j1")

    assert end.code == "max_deliver"
    assert (await the_letter(desk.bus)).attempts == 3


async def test_other_jobs_run_on(desk: Desk) -> None:
    """A bad job does not affect the good ones."""
    async with desk.manager(), desk.worker():
        await desk.submit("good1")
        await desk.submit("bad", task=Task.REMOVAL)
        await desk.submit_raw("worse", b"{")
        await desk.submit("good2")
        ends = [(await desk.outcome(job_id)).type for job_id in ("good1", "bad", "worse", "good2")]

    assert ends == ["done", "failed", "failed", "done"]


# --- jobs that cannot succeed ----------------------------------------------------------------------------------------


async def test_bad_input_fails_at_once(desk: Desk) -> None:
    """A retry of a removal without a mask cannot succeed."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", task=Task.REMOVAL)
        end = await desk.failed("j1")
    letter = await the_letter(desk.bus)

    assert end.code == "bad_input"
    assert end.message == "The field mask is missing: mark the region to edit."
    assert (letter.reason, letter.message) == (end.code, end.message)
    assert [(each.outcome, each.ended_at is None) for each in letter.history] == [("bad_input", False)]
    assert 2 not in await desk.attempts("j1")


async def test_an_undecodable_image_fails_at_once(desk: Desk, images: NatsImageStore) -> None:
    """A file with a valid header may have no valid content."""
    data = b"GIF89a: not really a picture"
    sha256 = hashlib.sha256(data).hexdigest()
    ref = ImageRef(bucket="inputs", sha256=sha256, content_type="image/gif", width=4, height=3, size_bytes=len(data))
    await images.put("inputs", data, ref)
    async with desk.manager(), desk.worker():
        await desk.submit("j1", task=Task.REMOVAL, mask=ref.sha256)
        end = await desk.failed("j1")

    assert end.code == "bad_image"
    assert await desk.attempts("j1") == [1]


@pytest.mark.parametrize("field", ["image", "mask", "reference", "reference_mask"])
async def test_an_unknown_image_fails_at_once(desk: Desk, field: str) -> None:
    """In any of the four fields; the letter holds the submission unchanged."""
    fields = {"task": Task.INSERTION, "mask": desk.photo, "reference": desk.photo, field: UNKNOWN}
    async with desk.manager(), desk.worker():
        seq = await desk.submit("j1", **fields)
        end = await desk.failed("j1")
    letter = await the_letter(desk.bus)
    logged = await desk.bus.get(JOB_LOG, seq)

    assert end.code == letter.reason == "image_not_found"
    assert letter.log_seq == seq
    assert logged is not None
    assert letter.raw == logged.data.decode()


async def test_an_image_that_is_lost_while_the_job_waits_fails_at_once(desk: Desk) -> None:
    """Its entry is still stored, but its bytes are not."""
    await desk.bus.purge(bucket_stream("inputs"), subjects.object_chunks("inputs", ">"))
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        end = await desk.failed("j1")
    letter = await the_letter(desk.bus)

    assert (end.code, end.attempt) == ("image_not_found", 1)
    assert letter.work is not None
    assert letter.work.submit.image == desk.photo


# --- unreadable jobs -----------------------------------------------------------------------------------------------


def body(**fields: object) -> bytes:
    return json.dumps({"task": "white-balance", "image": UNKNOWN, **fields}).encode()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "The job is not valid: invalid JSON"),
        (b"{", "The job is not valid: invalid JSON"),
        (b"\xff\xfe\x00", "The job is not valid: invalid JSON"),
        (b"[]", "The job is not valid: input should be an object"),
        (b"{}", "The field task is not valid: field required"),
        (body(v="2"), "The field v is not valid: input should be 1"),
        (body(task=7), "The field task is not valid: input should be 'removal', 'insertion' or 'white-balance'"),
        (body(image="../../etc/passwd"), "The field image is not valid: string should match pattern"),
        (body(steps=10_000), "The field steps is not valid: input should be less than or equal to 100"),
        (body(seed="x"), "The field seed is not valid: input should be a valid integer"),
    ],
    ids=[
        "empty",
        "cut",
        "binary",
        "list",
        "bare",
        "version",
        "task",
        "image",
        "steps",
        "seed",
    ],
)
async def test_an_unreadable_submission_is_kept_unchanged(desk: Desk, raw: bytes, reason: str) -> None:
    """The error text names the fault, the letter holds the body, and the log is settled."""
    async with desk.manager():
        seq = await desk.submit_raw("j1", raw)
        end = await desk.failed("j1")
        await wait_until(lambda: all_is_settled(desk.bus), "nothing is unsettled")
    letter = await the_letter(desk.bus)

    assert end.code == letter.reason == "bad_message"
    assert end.message.startswith(reason)
    assert (letter.raw, letter.log_seq, letter.attempts) == (raw.decode(errors="replace"), seq, 0)


@pytest.mark.parametrize("address", ["ops.j:1", "ops.größe", "ops." + "x" * 65, "$ops.j1", "o/ps.j1"])
async def test_an_invalid_address_stops_no_other_job(desk: Desk, address: str) -> None:
    """A subject may have more characters than an id. The job is dead-lettered, and the next one runs."""
    await desk.bus.publish(f"job.submit.a100.interactive.{address}", body(image=desk.photo), msg_id="once")
    async with desk.manager(), desk.worker():
        await desk.submit("j2")
        await desk.done("j2")
        await wait_until(lambda: all_is_settled(desk.bus), "nothing is unsettled")
    letter = await the_letter(desk.bus)

    assert (letter.reason, letter.log_seq) == ("bad_message", 1)
    assert letter.raw == body(image=desk.photo).decode()


async def test_unusual_text_is_data_and_100_kb_are_dead_lettered_whole(desk: Desk) -> None:
    """Braces, quotes, newlines, emoji and both writing directions run. The letter of the long job is complete."""
    strange = '{{Count}} {{ .ID }} "q" \\ back\nnew line\r\n\ttab \u0000 🐈‍⬛ 猫 \u202e right to left </script> ${HOME}'
    whole = json.dumps({"task": "white-balance", "image": desk.photo, "prompt": "{{x}} 🐈\n" * 12_000}).encode()
    async with desk.manager(), desk.worker():
        await desk.submit_raw("strange", body(image=desk.photo, prompt=strange))
        await desk.submit_raw("long", whole)
        await desk.done("strange")
        end = await desk.failed("long")
    letter = await the_letter(desk.bus)
    logged = await desk.bus.first(JOB_LOG, subjects.submissions_of("strange"))

    assert len(whole) > 100_000
    assert (end.code, letter.raw) == ("bad_message", whole.decode())
    assert logged is not None
    assert json.loads(logged.data)["prompt"] == strange


async def test_an_unreadable_queue_entry_is_dead_lettered_by_the_worker(desk: Desk) -> None:
    """An entry by hand ends its job, and the next job runs. For one of a newer release see bus/test_versions.py."""
    await desk.bus.publish(subjects.queue_entry("interactive", Task.WHITE_BALANCE, "u1", "j1"), b'{"v": 1}')
    async with desk.manager(), desk.worker():
        end = await desk.failed("j1")
        await desk.submit("j2")
        await desk.done("j2")
    letter = await the_letter(desk.bus)

    assert end.code == letter.reason == "bad_message"
    assert letter.raw == '{"v": 1}'


async def test_unreadable_events_stop_no_job(desk: Desk) -> None:
    """The job in the subject of the event runs, and the view shows it."""
    for noise in (b"", b"{", b'{"type": "done"}', b"\xff"):
        await desk.bus.publish(subjects.event("j1", "progress"), noise)
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.done("j1")

        async def is_viewed() -> bool:
            stored = await desk.bus.last(JOBS, subjects.job_record("u1", "j1"))
            return stored is not None and JobRecord.model_validate_json(stored.data).state == "done"

        await wait_until(is_viewed, "the view shows the end")


# --- run again ----------------------------------------------------------------------------------------------------


async def test_a_dead_letter_can_be_replayed(desk: Desk) -> None:
    """After a fix of the engine one request to the job manager replays the job."""
    async with desk.manager():
        async with desk.worker("tests.fakes:FailingEngine"):
            await desk.submit("j1")
            await desk.failed("j1")
        async with desk.worker():
            reply = await rpc.call(
                desk.bus, subjects.JOB_REDRIVE, RedriveRequest(job_id="j1"), ReplayReply, timeout_s=TIMEOUT_S
            )
            (again,) = reply.jobs
            await desk.done(str(again.new_job_id))

    assert again.job_id == "j1"
    assert await letters(desk.bus) == []


async def test_a_letter_is_enough_to_submit_again(desk: Desk) -> None:
    """Even by hand and without the log: the letter holds a valid body."""
    async with desk.manager():
        async with desk.worker("tests.fakes:FailingEngine"):
            await desk.submit("j1", script(2))
            await desk.failed("j1")
        letter = await the_letter(desk.bus)
        assert letter.work is not None
        async with desk.worker():
            await desk.submit_raw("j2", letter.work.submit.model_dump_json(exclude_none=True).encode())
            end = await desk.done("j2")

    assert end.seed == letter.work.submit.seed


async def test_a_job_is_dead_lettered_once(desk: Desk) -> None:
    """A repeated dead-lettering still gives one end and one letter."""
    work = JobWork(
        job_id="j1",
        user="u1",
        job_class=JobClass.INTERACTIVE,
        log_seq=1,
        submit=JobSubmit(task=Task.REMOVAL, image=desk.photo),
    )
    async with desk.manager(), desk.worker():
        queue = subjects.queue_entry("interactive", Task.REMOVAL, "u1", "j1")
        await desk.bus.publish(queue, work)
        await desk.failed("j1")
        await wait_until(lambda: all_is_settled(desk.bus), "the queue has room for it again")
        await desk.bus.publish(queue, work)
        await wait_until(lambda: all_is_settled(desk.bus), "nothing is unsettled")

    assert len(await letters(desk.bus)) == 1
    assert (await desk.failed("j1")).code == "bad_input"
