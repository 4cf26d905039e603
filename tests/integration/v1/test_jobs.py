"""/v1/jobs: submitting, idempotency, reading, listing and cancelling. The test publishes the events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared import subjects
from shared.messages import JobRecord, JobState, JobSubmit
from shared.settings import NatsSettings
from shared.topology import JOB_LOG, JOBS
from tests.gateway import WorkerByHand, gateway, mask_png, png
from tests.v1_client import UNKNOWN, logged_submission, removal, submit, submit_body, upload

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client


async def record(bus: Bus, job_id: str, created_at: float, user: str = "local", **changes: Any) -> None:
    """Store a record in the view like the projector."""
    facts = {"job_id": job_id, "user": user, "state": "queued", "task": "removal", "job_class": "interactive",
             "created_at": created_at, "updated_at": created_at, "last_seq": 1, **changes}  # fmt: skip
    await bus.publish(subjects.job_record(user, job_id), JobRecord.model_validate(facts))


# --- submit ----------------------------------------------------------------------------------------------------


async def test_a_submission_becomes_a_job(client: Client, bus: Bus) -> None:
    """The job is logged before the response, and the response has its address."""
    answer = await submit_body(client, await removal(client, seed=7, steps=20, prompt="a cup"))

    job_id = answer.json()["id"]
    (job,) = await logged_submission(bus, job_id)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["location"] == answer.json()["links"]["self"] == f"/v1/jobs/{job_id}"
    assert (job.seed, job.steps, job.prompt) == (7, 20, "a cup")


async def test_all_fields_reach_the_worker(client: Client, bus: Bus) -> None:
    """The class is in the subject, where the queue reads it."""
    pictures = {
        "image": await upload(client, png()), "mask": await upload(client, mask_png()),
        "reference": await upload(client, png("green")),
        "reference_mask": await upload(client, mask_png(box=(1, 1, 9, 9))),
    }  # fmt: skip
    facts = {"task": "insertion", "prompt": "p", "negative_prompt": "n", "seed": 3, "steps": 9, "guidance": 2.5,
             "strength": 0.5, "temperature": -20,
             "variant": 1, "mask_tool": "box", "exact_mask": True, "debug": True, **pictures}  # fmt: skip

    job_id = (await submit_body(client, {**facts, "class": "batch"})).json()["id"]

    (stored,) = await bus.history(JOB_LOG, subjects.submissions_of(job_id))
    assert subjects.parse_submission(stored.subject).job_class == "batch"
    job = JobSubmit.model_validate_json(stored.data)
    assert job.model_dump(include=set(facts)) == facts


async def test_a_submission_without_a_seed_gets_one(client: Client) -> None:
    """Each job has another seed."""
    body = await removal(client)
    first, second = [(await submit_body(client, body)).json()["id"] for _ in range(2)]

    assert first != second


async def test_a_white_balance_needs_a_photo_only(client: Client) -> None:
    """The strength is optional."""
    body = {"task": "white-balance", "image": await upload(client, png()), "strength": 0.4}

    assert (await submit_body(client, body)).status_code == 202


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"task": "remove"}, "task"),
        ({"mask": None}, "mask"),
        ({"task": "insertion"}, "reference"),
        ({"image": "cat.jpg"}, "image"),
        ({"image": ...}, "image"),
        ({"steps": 0}, "steps"),
        ({"strength": 2}, "strength"),
        ({"temperature": 101}, "temperature"),
        ({"variant": 2}, "variant"),
        ({"class": "vip"}, "class"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
async def test_an_invalid_submission_is_refused(client: Client, changes: dict[str, Any], word: str) -> None:
    """The error is one sentence with the field's name."""
    answer = await submit_body(client, await removal(client, **changes))

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")
    assert f"field {word} " in answer.json()["detail"]


@pytest.mark.parametrize("field", ["image", "mask", "reference", "reference_mask"])
async def test_a_missing_picture_is_named(client: Client, field: str) -> None:
    """The job is not accepted."""
    pictures = {"reference": await upload(client, png()), "reference_mask": await upload(client, mask_png())}

    answer = await submit_body(client, await removal(client, task="insertion", **{**pictures, field: UNKNOWN}))

    assert (answer.status_code, answer.json()["code"]) == (422, "image_not_found")
    assert f"field {field} " in answer.json()["detail"]


async def test_an_empty_mask_is_refused(client: Client) -> None:
    """An empty mask has nothing to edit."""
    answer = await submit_body(client, await removal(client, mask=await upload(client, mask_png(box=None))))

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")
    assert "empty" in answer.json()["detail"]


async def test_a_full_queue_is_429(nats_url: str, stream_settings: StreamSettings, bus: Bus) -> None:
    """The response is 429 with Retry-After."""
    assert bus.is_connected
    async with gateway(NatsSettings(url=nats_url), stream_settings, queue_limit_per_user=1) as client:
        await submit(client)
        answer = await submit_body(client, await removal(client))

    assert (answer.status_code, answer.json()["code"]) == (429, "busy")
    assert int(answer.headers["retry-after"]) > 0


# --- read and cancel ----------------------------------------------------------------------------------------------


async def test_a_job_can_be_read_as_soon_as_it_is_accepted(client: Client) -> None:
    """The job manager has not queued it yet."""
    job = (await client.get(f"/v1/jobs/{await submit(client)}")).json()

    assert (job["status"], job["task"], job["class"], job["progress"]) == ("queued", "removal", "interactive", 0.0)


async def test_a_running_job_has_its_progress(client: Client, worker: WorkerByHand) -> None:
    """The engine is included."""
    job_id = await submit(client)
    await worker.queue(job_id)
    await worker.start(job_id)
    await worker.step(job_id, 2, 4, "Painting")

    job = (await client.get(f"/v1/jobs/{job_id}")).json()

    assert (job["status"], job["step"], job["total_steps"], job["progress"]) == ("running", 2, 4, 0.5)
    assert (job["message"], job["engine"], job["attempt"], job["ahead"]) == ("Painting", "by-hand", 1, None)


async def test_a_failed_job_says_why(client: Client, worker: WorkerByHand) -> None:
    """The error has a code and a sentence."""
    job_id = await submit(client)
    await worker.fail(job_id, "The engine gave up.")

    job = (await client.get(f"/v1/jobs/{job_id}")).json()

    assert job["status"] == "failed"
    assert job["error"] == {"code": "engine_failed", "message": "The engine gave up."}


async def test_a_cancel_takes_effect_at_once(client: Client, worker: WorkerByHand) -> None:
    """A second cancel has no effect."""
    job_id = await submit(client)
    await worker.queue(job_id)

    first, second = [await client.delete(f"/v1/jobs/{job_id}") for _ in range(2)]

    assert (first.status_code, first.json()["status"]) == (200, "cancelled")
    assert second.json() == first.json()
    assert await worker.ends(job_id) == ["cancelled"]


async def test_a_cancelled_job_has_its_progress(client: Client, worker: WorkerByHand) -> None:
    """The terminal event has the step, so the step is available as long as the job."""
    job_id = await submit(client)
    await worker.queue(job_id)
    await worker.start(job_id)
    await worker.step(job_id, 3, 4, "Painting")

    job = (await client.delete(f"/v1/jobs/{job_id}")).json()

    assert (job["status"], job["step"], job["total_steps"], job["progress"]) == ("cancelled", 3, 4, 0.75)


async def test_a_job_that_has_ended_stays_as_it_is(client: Client, worker: WorkerByHand) -> None:
    """A late cancel has no effect."""
    job_id = await submit(client)
    await worker.finish(job_id)

    answer = await client.delete(f"/v1/jobs/{job_id}")

    assert (answer.status_code, answer.json()["status"]) == (200, "done")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("job_id", ["nope", "a.b", "*", "x" * 6000])
async def test_an_unknown_job_is_404(client: Client, method: str, job_id: str) -> None:
    """The error is problem details."""
    answer = await client.request(method, f"/v1/jobs/{job_id}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_an_open_gateway_has_every_job(client: Client, bus: Bus, images: NatsImageStore) -> None:
    """Its one owner can read, list and cancel a job that was published by hand under another name."""
    job = JobSubmit.model_validate({"task": "white-balance", "image": UNKNOWN})
    await bus.publish(subjects.submission("interactive", "mallory", "j1"), job)
    await record(bus, "j1", 1.0, user="mallory")
    await WorkerByHand(bus, images, "mallory").queue("j1")
    found = await client.get("/v1/jobs/j1")
    listed = (await client.get("/v1/jobs")).json()["jobs"]
    cancelled = await client.delete("/v1/jobs/j1")

    assert (found.status_code, found.json()["status"]) == (200, "queued")
    assert [entry["id"] for entry in listed] == ["j1"]
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")


# --- list ---------------------------------------------------------------------------------------------------------


async def test_jobs_are_listed_newest_first(client: Client, bus: Bus) -> None:
    """The order is by creation time, not by the last change."""
    for job_id, created_at in (("j1", 10.0), ("j3", 30.0), ("j2", 20.0)):
        await record(bus, job_id, created_at)

    page = (await client.get("/v1/jobs")).json()

    assert [job["id"] for job in page["jobs"]] == ["j3", "j2", "j1"]
    assert page["next_cursor"] is None


async def test_parts_of_a_list_fit_together(client: Client, bus: Bus) -> None:
    """Also for jobs of the same creation time, and when a job is added between two requests."""
    for number in range(7):
        await record(bus, f"j{number}", 10.0 + number // 3)
    found: list[str] = []
    cursor = None
    while True:
        page = (await client.get("/v1/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        found += [job["id"] for job in page["jobs"]]
        if (cursor := page["next_cursor"]) is None:
            break
        await record(bus, f"new{len(found)}", 99.0)

    assert found == ["j6", "j5", "j4", "j3", "j2", "j1", "j0"]


async def test_a_list_can_hold_one_state_only(client: Client, bus: Bus) -> None:
    """For example those that have not ended."""
    await record(bus, "j1", 1.0)
    await record(bus, "j2", 2.0, state=JobState.FAILED)

    page = (await client.get("/v1/jobs", params={"status": "queued"})).json()

    assert [job["id"] for job in page["jobs"]] == ["j1"]


async def test_a_running_job_is_listed_with_its_steps(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """The view has no steps; they are read from the events."""
    job_id = await submit(client)
    await worker.queue(job_id)
    await worker.start(job_id)
    await worker.step(job_id, 2, 4)
    await record(bus, job_id, 1.0, state=JobState.RUNNING)

    (job,) = (await client.get("/v1/jobs")).json()["jobs"]

    assert (job["step"], job["progress"]) == (2, 0.5)


async def test_what_was_removed_from_the_view_is_not_listed(client: Client, bus: Bus) -> None:
    """`nats kv del` leaves a marker in the bucket."""
    await record(bus, "j1", 1.0)
    await bus.publish(subjects.job_record("local", "j1"), b"", headers={"KV-Operation": "DEL"})

    assert len(await bus.history(JOBS, subjects.job_records_of("local"))) == 1
    assert (await client.get("/v1/jobs")).json()["jobs"] == []


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 101}, {"status": "new"}, {"cursor": "?"}, {"cursor": "AAAA"}, {"cursor": "ä"}]
)
async def test_a_senseless_listing_is_refused(client: Client, query: dict[str, Any]) -> None:
    """The error has the parameter's name."""
    answer = await client.get("/v1/jobs", params=query)

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")
    assert f"field {next(iter(query))} " in answer.json()["detail"]
