"""The recipes that change something: submit, cancel, replay, re-drive, pause, forget, back up and restore."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.gateway.access.principal import LOCAL
from services.gateway.webhooks.endpoints import Endpoints
from services.stack.nats_server import NatsServer
from shared import declaring, job_events, jobs, subjects, topology, webhook_subjects
from shared.bus import open_bus
from shared.image_codec import encode_png, probe_in_thread
from shared.image_store import NatsImageStore
from shared.messages import Cancelled, Done, JobRecord, JobState, Task
from shared.settings import NatsSettings
from shared.topology import JOB_DLQ, JOB_EV, JOB_LOG, JOB_Q, JOBS, OWNED, WEBHOOK_LOG, WEBHOOK_Q, WEBHOOKS
from shared.webhook_messages import WebhookEvent
from tests.operations.conftest import CAT
from tests.operations.recipes import Operator, recipes
from tests.receiver import LOOPBACK, Receiver
from tests.running import Desk, script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shared.bus import Bus, StoredMessage
    from shared.settings import StreamSettings
    from tests.gateway import WorkerByHand

KEPT = (JOB_LOG, JOB_Q, JOB_EV, JOB_DLQ, JOBS, OWNED, WEBHOOKS, WEBHOOK_Q, WEBHOOK_LOG)
STRANGE = 'a "red" {{boat}} and {{Count}} \\ \n\ttwo\r\nlines, 猫 🐈 ' + "long " * 1000


async def record(bus: Bus, user: str, job_id: str) -> JobRecord | None:
    """Return the record in the bucket `jobs`."""
    stored = await bus.last(JOBS, subjects.job_record(user, job_id))
    return None if stored is None else await job_events.load_record(bus, job_id)


# --- by hand ------------------------------------------------------------------------------------------------------


async def test_a_job_runs_that_was_made_by_hand(operator: Operator, desk: Desk) -> None:
    """From a file to a file, with nothing but the command: put, submit, look, get."""
    photo = operator.folder / "my photo.jpg"
    photo.write_bytes((CAT.parent / "coffee.jpg").read_bytes())
    async with desk.manager(), desk.worker():
        image = (await operator.run("put-input", FILE=photo.name)).splitlines()[-1]
        await operator.run("submit-job", OWNER="ann", JOB="j1", IMAGE=image)
        end = await desk.done("j1")
        await wait_until(lambda: is_projected(operator, "ann", "j1"), "the record names the result")
        await operator.run("get-result", OWNER="ann", JOB="j1")
    result = (operator.folder / "j1.png").read_bytes()

    assert (end.result.width, end.result.height) == (600, 400)
    assert hashlib.sha256(result).hexdigest() == end.result.sha256


async def is_projected(operator: Operator, owner: str, job_id: str) -> bool:
    code, out, _ = await operator.result(recipes()["job-record"], OWNER=owner, JOB=job_id)
    return code == 0 and json.loads(out)["state"] == "done"


async def test_a_running_job_is_cancelled_by_hand(operator: Operator, desk: Desk) -> None:
    """At its next step; and a second end is refused."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(1000, 20))
        await desk.started("j1")
        await operator.run("cancel-job", JOB="j1")
        end = await desk.outcome("j1")
        _, _, refusal = await operator.result(recipes()["cancel-job"], JOB="j1")

    assert isinstance(end, Cancelled)
    assert "wrong last sequence" in refusal


async def test_an_owners_waiting_jobs_are_cancelled(operator: Operator, desk: Desk) -> None:
    """Those of other owners stay; without waiting jobs the recipe does nothing."""
    async with desk.manager():
        for owner, job in (("ann", "j1"), ("ann", "j2"), ("bob", "j3")):
            await desk.submit(job, user=owner)

        async def waiting() -> bool:
            shown = await operator.run("queues")
            return "j1" in shown and "j2" in shown and "j3" in shown

        await wait_until(waiting, "all wait")
        await operator.run("cancel-waiting", OWNER="ann")
        ends = [await desk.outcome(job) for job in ("j1", "j2")]
        await operator.run("cancel-waiting", OWNER="nobody")

    assert [type(end) for end in ends] == [Cancelled, Cancelled]
    assert [event.type for event in await desk.events("j3")] == ["queued"]


async def test_a_batch_job_is_put_before_all_others(operator: Operator, desk: Desk) -> None:
    """It is submitted again as an interactive job, and cancelled as a batch job."""
    async with desk.manager():
        seq = await desk.submit("j1", job_class="batch")
        (moved,) = json.loads((await operator.run("raise-priority", SEQ=seq, JOB="j1")).partition("]")[0] + "]")
        end = await desk.outcome("j1")
        async with desk.worker():
            done = await desk.done(moved["new_job_id"])

    assert isinstance(end, Cancelled)
    assert isinstance(done, Done)


# --- replay -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["scripted", "classical"])
async def test_a_replay_makes_the_same_bytes(
    operator: Operator, desk: Desk, images: NatsImageStore, engine: str
) -> None:
    """The same seed, the same inputs, the same engine."""
    mask = np.zeros((300, 451), np.uint8)
    mask[120:160, 180:230] = 255
    ref = await images.put("inputs", encode_png(mask))
    async with desk.manager(), desk.worker(engine):
        seq = await desk.submit("j1", task=Task.REMOVAL, mask=ref.sha256, seed=7)
        first = await desk.done("j1")
        (replayed,) = json.loads(await operator.run("replay", FROM=seq, TO=seq))
        second = await desk.done(replayed["new_job_id"])

    assert replayed["new_job_id"] == f"j1-r{seq + 1}"
    assert (first.result.sha256, first.seed) == (second.result.sha256, second.seed)


async def test_a_dry_run_says_what_would_run(operator: Operator, desk: Desk) -> None:
    """And logs nothing."""
    async with desk.manager():
        await desk.submit("j1")
        await desk.submit_raw("bad", b"{}")
        last = await desk.submit("j3")
        planned = json.loads(await operator.run("replay-dry-run", FROM=1, TO=last))

    assert [(job["job_id"], "problem" in job) for job in planned] == [("j1", False), ("bad", True), ("j3", False)]
    assert await desk.bus.get(JOB_LOG, last + 1) is None


async def test_a_range_is_replayed_in_its_order(operator: Operator, desk: Desk) -> None:
    """Each as a new job, in the class that the recipe names."""
    async with desk.manager(), desk.worker():
        for number in range(1, 4):
            await desk.submit(f"j{number}")
        replayed = json.loads(await operator.run("replay", FROM=1, TO=3))
        for job in replayed:
            await desk.done(job["new_job_id"])
    logged = await desk.bus.get(JOB_LOG, 4)

    assert [job["new_job_id"] for job in replayed] == ["j1-r4", "j2-r5", "j3-r6"]
    assert logged is not None
    assert logged.subject == "job.submit.a100.batch.u1.j1"


async def test_a_replay_by_hand_is_the_same_to_the_byte(operator: Operator, desk: Desk) -> None:
    """Whatever the prompt holds; no job manager is needed to log it, and it runs when there is one."""
    await desk.submit("j1", STRANGE)
    await desk.submit("j2", "{{.}}", user="ann", job_class="batch")
    await operator.run("replay-by-hand", FROM=1, TO=2)
    log = [await desk.bus.get(JOB_LOG, seq) for seq in range(1, 5)]
    async with desk.manager(), desk.worker():
        ends = [await desk.done(job_id) for job_id in ("j1", "j2", "j1-r3", "j2-r4")]

    assert [(stored.subject, stored.data) for stored in log[:2] if stored] == [
        (stored.subject, stored.data) for stored in log[2:] if stored
    ]
    assert len({end.result.sha256 for end in ends}) == 1


async def test_a_replay_without_a_job_manager_is_a_failure(operator: Operator, desk: Desk) -> None:
    """The command itself would end with 0."""
    await desk.submit("j1")
    code, _, _ = await operator.result(recipes()["replay-dry-run"], FROM=1, TO=1)

    assert code != 0


# --- dead letters -------------------------------------------------------------------------------------------------


async def test_a_dead_letter_is_found_read_and_run_again(
    operator: Operator, desk: Desk, images: NatsImageStore
) -> None:
    """Once the cause is mended: here, the picture that was missing is there."""
    picture = (CAT.parent / "rocket.jpg").read_bytes()
    sha256 = hashlib.sha256(picture).hexdigest()
    async with desk.manager(), desk.worker():
        await desk.submit("j1", image=sha256)
        await desk.failed("j1")
        listed = await operator.run("list-dead-letters")
        letter = json.loads(await operator.run("read-dead-letter", JOB="j1"))
        await images.put("inputs", picture)
        (job,) = json.loads(await operator.run("redrive", JOB="j1"))
        end = await desk.done(job["new_job_id"])

    assert f"job.dlq.a100.{letter['reason']}.j1" in listed
    assert "expired" in letter["message"]
    assert (end.result.width, end.result.height) == (640, 427)
    assert await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD) == []


async def test_all_dead_letters_are_run_again_at_once(operator: Operator, desk: Desk) -> None:
    """A letter that can never run is answered with its problem, and stays."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", image="0" * 64)
        await desk.submit_raw("bad", b"{}")
        for job_id in ("j1", "bad"):
            await desk.failed(job_id)
        answered = json.loads(await operator.run("redrive-all"))
        await desk.failed("j1-r3")
    kept = await desk.bus.subjects_in(JOB_DLQ, subjects.ALL_DEAD)

    assert {job["job_id"]: ("new_job_id" in job, "problem" in job) for job in answered} == {
        "j1": (True, False),
        "bad": (False, True),
    }
    assert sorted(subject.rpartition(".")[2] for subject in kept) == ["bad", "j1-r3"]


# --- pause --------------------------------------------------------------------------------------------------------


async def test_a_pause_holds_all_jobs_until_it_is_over(
    operator: Operator, desk: Desk, stream_settings: StreamSettings
) -> None:
    """They are accepted and wait, also when a service starts meanwhile and declares everything."""
    async with desk.manager(), desk.worker():
        await operator.run("pause", HOW_LONG="1h")
        await declaring.declare_streams(desk.bus, stream_settings)
        await desk.submit("j1")
        await wait_until(lambda: desk.bus.subjects_in(JOB_Q, subjects.ALL_QUEUED), "the job is in the queue")
        infos = await desk.bus.client.jetstream().consumers_info(JOB_Q)
        await operator.run("resume")
        await desk.done("j1")

    assert [info.paused for info in infos] == [True] * 6
    assert await desk.story("j1") == ["queued", "started", "progress", "done"]


# --- forget -------------------------------------------------------------------------------------------------------


async def test_a_user_is_forgotten_and_nobody_else(operator: Operator, desk: Desk) -> None:
    """Jobs that have ended, jobs that failed and jobs that wait. A job manager that looks often reports no loss."""
    async with desk.manager(compare_s=0.05):
        async with desk.worker():
            for user, job_id in (("ann", "j1"), ("ann2", "j2")):
                await desk.bus.publish(subjects.image_ownership(user, desk.photo), b"1")
                await desk.submit(job_id, user=user)
                await desk.done(job_id)
        await desk.submit("j3", user="ann")
        await desk.submit("j4", user="ann", image="0" * 64)
        await desk.failed("j4")
        await wait_until(lambda: waits(desk.bus, "ann", "j3"), "the waiting job is in the view")
        await wait_until(lambda: record(desk.bus, "ann", "j4"), "the failed job is in the view")
        for user in ("ann", "ann2"):
            await desk.bus.publish(webhook_subjects.endpoint(user, "wh_1"), b"{}")
            await desk.bus.publish(webhook_subjects.delivery(user, "wh_1", "end", "j1"), b"{}")
            await desk.bus.publish(webhook_subjects.attempts_at(user, "wh_1"), b"{}")
        ends: list[StoredMessage] = []
        async with desk.bus.subscribe(subjects.LIVE_ENDS, ends.append):
            await NatsImageStore(desk.bus, probe_in_thread).put_named("cache", "seen", b"in Ann's photo")
            await operator.run("forget-user", OWNER="ann")
        left = {stream: await desk.bus.subjects_in(stream, ">") for stream in KEPT}

    assert [(subjects.job_of_event(end.subject), type(jobs.parse_event(end))) for end in ends] == [("j3", Cancelled)]
    assert left[JOB_LOG] == ["job.submit.a100.interactive.ann2.j2"]
    assert left[JOB_Q] == left[JOB_DLQ] == []
    assert {subject.split(".")[2] for subject in left[JOB_EV]} == {"j2"}
    assert left[JOBS] == ["$KV.jobs.ann2.j2"]
    assert {subject.split(".")[2] for subject in left[OWNED]} == {"ann2"}
    assert f"$KV.owned.ann2.{desk.photo}" in left[OWNED]
    assert await desk.bus.subjects_in(topology.bucket_stream("cache"), ">") == []
    assert left[WEBHOOKS] == ["$KV.webhooks.ann2.endpoint.wh_1"]
    assert not [subject for subject in left[WEBHOOK_Q] + left[WEBHOOK_LOG] if ".ann." in subject]


# --- webhooks -----------------------------------------------------------------------------------------------------


async def test_a_webhook_is_listed_and_sent_again(operator: Operator, desk: Desk, worker: WorkerByHand) -> None:
    """By hand, for a job that ended before its endpoint was made."""
    async with Receiver().running() as receiver, desk.manager(webhooks=LOOPBACK):
        await worker.queue("j1")
        await worker.fail("j1", "no")
        await wait_until(lambda: has_ended(desk.bus, "local", "j1"), "the record has the end")
        endpoint = await Endpoints(desk.bus, LOOPBACK, None).create(
            LOCAL, receiver.url, list(WebhookEvent), "http://here"
        )
        await operator.run("redeliver-webhook", OWNER="local", ENDPOINT=endpoint.id, JOB="j1")
        (request,) = await receiver.has(1)

        async def is_logged() -> bool:
            return await desk.bus.last(WEBHOOK_LOG, webhook_subjects.attempts_at("local", endpoint.id)) is not None

        await wait_until(is_logged, "the attempt is logged")
        listed = await operator.run("list-webhooks", ENDPOINT=endpoint.id)
    assert request.verified(endpoint.secret)["data"]["job_id"] == "j1"
    assert '"outcome":"delivered"' in listed


async def has_ended(bus: Bus, user: str, job_id: str) -> bool:
    stored = await bus.last(JOBS, subjects.job_record(user, job_id))
    return stored is not None and JobRecord.model_validate_json(stored.data).ended is not None


async def waits(bus: Bus, user: str, job_id: str) -> bool:
    found = await record(bus, user, job_id)
    return found is not None and found.state is JobState.QUEUED


async def test_forgetting_a_user_without_jobs_is_fine(operator: Operator, desk: Desk) -> None:
    """There is nothing to do."""
    await desk.submit("j1", user="ann")

    await operator.run("forget-user", OWNER="nobody")

    assert await desk.bus.get(JOB_LOG, 1) is not None


@pytest.mark.parametrize("owner", ["", "*", ">", "ann.>", "ann bob"])
@pytest.mark.parametrize("shell", ["bash", "sh"])
async def test_forgetting_refuses_a_name_that_is_none(operator: Operator, desk: Desk, shell: str, owner: str) -> None:
    """Otherwise an empty variable or a wildcard deletes the data of everyone, in a shell that does not know a test."""
    await desk.submit("j1", user="ann")
    (operator.folder / "recipe").write_text(recipes()["forget-user"])

    code, _, error = await operator.result(f"{shell} recipe", OWNER=owner)

    assert (code, error) == (1, "Set OWNER to the name of one owner.\n")
    assert await desk.bus.get(JOB_LOG, 1) is not None


# --- backup -------------------------------------------------------------------------------------------------------


async def test_a_restore_brings_everything_back(
    operator: Operator, nats_command: Path, desk: Desk, stream_settings: StreamSettings, tmp_path: Path
) -> None:
    """On a new server: ended jobs can be read, with their pictures, and waiting jobs run."""
    async with desk.manager():
        async with desk.worker():
            await desk.submit("j1", user="ann")
            end = await desk.done("j1")
        await desk.submit("j2")
        await wait_until(lambda: desk.bus.subjects_in(JOB_Q, subjects.ALL_QUEUED), "the other job is in the queue")
    folder = operator.folder / "backup"
    await operator.run("backup", FOLDER=folder)
    async with (
        NatsServer(tmp_path / "new") as server,
        open_bus(NatsSettings(url=server.url), "test") as bus,
    ):
        await Operator(nats_command, server.url, operator.folder).run("restore", FOLDER=folder)
        await declaring.declare_streams(bus, stream_settings)
        again = await job_events.load_record(bus, "j1")
        picture = await NatsImageStore(bus, probe_in_thread).get("results", end.result.sha256)
        elsewhere = Desk(bus, server.url, stream_settings, desk.photo)
        async with elsewhere.manager(), elsewhere.worker():
            late = await elsewhere.done("j2")

    assert again is not None
    assert (again.state, again.user, again.ended) == (JobState.DONE, "ann", end)
    assert hashlib.sha256(picture).hexdigest() == end.result.sha256
    assert isinstance(late, Done)


# --- weaknesses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "change"),
    [
        (JOB_LOG, {"max_age": 3600.0, "duplicate_window": 60.0}),
        (JOB_LOG, {"max_msgs": 9}),
        (JOB_EV, {"max_msgs_per_subject": 9, "max_bytes": 9999, "allow_direct": False}),
        (JOB_Q, {"discard_new_per_subject": False, "max_msgs_per_subject": 9}),
        ("OBJ_inputs", {"discard": "old"}),
    ],
)
async def test_the_line_that_comes_with_a_weakness_mends_it(
    operator: Operator, bus: Bus, stream_settings: StreamSettings, stream: str, change: dict[str, object]
) -> None:
    """As it stands in the sentence."""
    jetstream = bus.client.jetstream()
    await jetstream.update_stream((await jetstream.stream_info(stream)).config.evolve(**change))
    (sentence,) = await declaring.find_weaknesses(bus, stream_settings)

    await operator.shell(sentence.split("`")[1])

    assert await declaring.find_weaknesses(bus, stream_settings) == []
