"""Sections 1.2 to 1.7 and 2 of the contract: submissions, states and results of edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared import subjects
from shared.messages import JobSubmit
from shared.topology import JOB_LOG
from tests.gateway import b64, edit, event_of, mask_png, png

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from tests.gateway import Client, WorkerByHand

EMPTY_MASK = b64(mask_png(box=None))


async def logged_submission(bus: Bus, task: str) -> JobSubmit:
    """Return the submission in the log."""
    entry = await bus.first(JOB_LOG, subjects.submissions_of(task))
    assert entry is not None
    return JobSubmit.model_validate_json(entry.data)


# --- the request --------------------------------------------------------------------------------------------------


async def test_the_answer_to_a_submit(client: Client) -> None:
    """The response has a task id for URLs and the status that the older client requires."""
    answer = await client.post("/api/generate/async", json=edit())

    assert answer.status_code == 200
    assert answer.json().keys() == {"task_id", "status", "message"}
    assert answer.json()["status"] == "queued"


async def test_the_live_body_becomes_a_job(client: Client, bus: Bus, images: NatsImageStore) -> None:
    """Field by field."""
    job = await logged_submission(bus, await client.submit(negative_prompt="blur", enable_debug=True))

    assert (job.task, job.prompt, job.negative_prompt) == ("removal", "remove object", "blur")
    assert (job.steps, job.guidance, job.seed, job.mask_tool) == (15, 2.0, 42, "brush")
    assert (job.refine_fill, job.flow_match, job.debug) == (True, False, True)
    assert await images.get("inputs", job.image) == png()
    assert await images.get("inputs", str(job.mask)) == mask_png()
    assert (job.reference, job.reference_mask) == (None, None)


async def test_what_is_left_out_gets_the_defaults(client: Client, bus: Bus) -> None:
    """Only prompt, image and mask are required; the default task is removal."""
    task = await client.post(
        "/api/generate/async",
        json={"prompt": "", "input_image": b64(png()), "conditional_images": [b64(mask_png())]},
    )
    job = await logged_submission(bus, task.json()["task_id"])

    assert (job.task, job.steps, job.guidance) == ("removal", 10, 4.0)
    assert (job.refine_fill, job.flow_match, job.debug, job.mask_tool) == (True, False, False, None)


async def test_nulls_and_unknown_keys_are_fine(client: Client, bus: Bus) -> None:
    """Sizes are validated and ignored."""
    nulls = dict.fromkeys(
        ("negative_prompt", "seed", "reference_image", "width", "true_cfg_scale", "mask_tool_type", "enable_debug")
    )
    job = await logged_submission(bus, await client.submit(**nulls, height=512, angle="low-angle", from_the_future=[1]))

    assert job.guidance == 2.0, "guidance_scale stands in for true_cfg_scale."


async def test_a_seed_is_drawn_where_none_is_given(client: Client, bus: Bus) -> None:
    """The seed is logged, so the edit can be repeated."""
    seeds = {(await logged_submission(bus, await client.submit(seed=None))).seed for _ in range(3)}

    assert len(seeds) == 3


async def test_white_balance_needs_no_mask(client: Client, bus: Bus) -> None:
    """The live client sends an empty mask_image; a mask would be ignored."""
    live = await client.submit(task_type="white-balance", prompt="", conditional_images=..., mask_image="")
    masked = await client.submit(task_type="white-balance", mask_image="not even base64")

    assert (await logged_submission(bus, live)).mask is None
    assert (await logged_submission(bus, masked)).mask is None


async def test_the_mask_may_come_in_its_second_place_only(client: Client, bus: Bus) -> None:
    """The live client fills `mask_image` too."""
    job = await logged_submission(bus, await client.submit(conditional_images=...))

    assert job.mask is not None


async def test_an_insertion_takes_its_reference_along(client: Client, bus: Bus, images: NatsImageStore) -> None:
    """The reference's mask is optional."""
    reference, mask = png("red", (40, 40)), mask_png((40, 40))
    task = await client.submit(task_type="insertion", reference_image=b64(reference), reference_mask_R=b64(mask))
    job = await logged_submission(bus, task)

    assert await images.get("inputs", str(job.reference)) == reference
    assert await images.get("inputs", str(job.reference_mask)) == mask


async def test_an_empty_reference_mask_counts_as_none(client: Client, bus: Bus) -> None:
    """The client's editor can send a black mask."""
    task = await client.submit(task_type="insertion", reference_image=b64(png("red")), reference_mask_R=EMPTY_MASK)

    assert (await logged_submission(bus, task)).reference_mask is None


REFUSED: dict[str, dict[str, Any]] = {
    "no prompt": {"prompt": ...},
    "no picture": {"input_image": ""},
    "steps": {"num_inference_steps": 0},
    "guidance": {"guidance_scale": 20.5},
    "cfg": {"true_cfg_scale": 0.1},
    "not a number": {"true_cfg_scale": "NaN"},
    "seed": {"seed": -1},
    "width": {"width": 100},
    "task": {"task_type": "magic"},
    "tool": {"mask_tool_type": "eraser"},
    "quality": {"input_quality": "best"},
    "long prompt": {"prompt": "x" * 10_001},
    "no mask": {"conditional_images": [], "mask_image": ...},
    "empty mask": {"conditional_images": [EMPTY_MASK]},
    "mask that is none": {"conditional_images": [b64(b"GIF89a")]},
    "no reference": {"task_type": "insertion"},
    "cut short": {"input_image": b64(png()[:-20])},
}


async def test_what_cannot_work_is_refused_and_leaves_nothing_behind(client: Client, bus: Bus) -> None:
    """The response is 422 with one sentence; no job and no image are stored."""
    answers = {name: await client.post("/api/generate/async", json=edit(**wrong)) for name, wrong in REFUSED.items()}
    stored = [subject for stream in ("JOB_LOG", "OBJ_inputs") for subject in await bus.subjects_in(stream, ">")]

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(REFUSED, 422)
    assert len({answer.json()["detail"] for answer in answers.values()}) == len(REFUSED), "Each has its own sentence."
    assert stored == []


async def test_the_aliases_do_the_same(client: Client, worker: WorkerByHand) -> None:
    """POST /api/generate accepts; POST /api/generate/stream accepts and streams in one."""
    plain = await client.post("/api/generate", json=edit())
    async with client.stream("POST", "/api/generate/stream", json=edit()) as answer:
        lines = answer.aiter_lines()
        task = event_of((await anext(lines)).encode())["task_id"]
        await worker.finish(task)
        words = [event_of(line.encode())["status"] async for line in lines if line.startswith("data")]

    assert plain.json()["status"] == "queued"
    assert words == ["done"]


# --- its course ---------------------------------------------------------------------------------------------------


async def test_the_words_and_the_numbers_of_progress(client: Client, worker: WorkerByHand) -> None:
    """Queued 0, loading 0.2 to 0.3, ready 0.3, step i of n 0.3 + 0.65 (i-1)/n, done 1."""
    task = await client.submit()
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        first = event_of(await stream.chunk())
        await worker.queue(task, steps=4)
        await worker.start(task)
        await worker.load(task, 0.5)
        await worker.step(task, None)
        for step in (1, 2, 4):
            await worker.step(task, step, 4)
        await worker.finish(task)
        events = [first] + [event_of(chunk) for chunk in await stream.rest() if chunk.startswith(b"data")]

    assert [(event["status"], event["progress"], event["current_step"], event["total_steps"]) for event in events] == [
        ("queued", 0.0, None, None),
        ("loading_pipeline", 0.2, None, None),
        ("loading_pipeline", 0.25, None, None),
        ("processing", 0.3, None, None),
        ("processing", 0.3, 1, 4),
        ("processing", 0.4625, 2, 4),
        ("processing", 0.7875, 4, 4),
        ("done", 1.0, None, None),
    ]


async def test_each_step_is_sent_once(client: Client, worker: WorkerByHand) -> None:
    """The client estimates the time left from the gaps between steps."""
    task = await client.submit()
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        for step in (1, 1, 2, 2, 2):
            await worker.step(task, step)
        await worker.finish(task)
        events = [event_of(chunk) for chunk in await stream.rest() if chunk.startswith(b"data")]

    assert [event["current_step"] for event in events if event["status"] == "processing"] == [1, 2]


async def test_status_and_stream_speak_alike(client: Client, worker: WorkerByHand) -> None:
    """The fields and values are the same."""
    task = await client.submit()
    await worker.start(task)
    await worker.step(task, 2, 3, "Blending")
    status = (await client.get(f"/api/generate/status/{task}")).json()
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        event = event_of(await stream.chunk())

    assert status == event
    assert status == {
        "task_id": task,
        "status": "processing",
        "progress": 0.5167,
        "current_step": 2,
        "total_steps": 3,
        "error": None,
        "loading_message": "Blending",
    }


@pytest.mark.parametrize("what", ["stream", "status", "result", "result-image"])
async def test_an_unknown_job_is_404(client: Client, what: str) -> None:
    """On each route and for each form of id."""
    answers = [await client.get(f"/api/generate/{what}/{task}") for task in ("unknown", "a.b", "%2e%2e", "x" * 200)]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert {answer.json()["detail"] for answer in answers} == {"This job is unknown or has expired."}


# --- its end ------------------------------------------------------------------------------------------------------


async def test_the_result_says_how_it_went(client: Client, worker: WorkerByHand) -> None:
    """The image has an address of its own."""
    task = await client.submit()
    await worker.finish(task)
    result = (await client.get(f"/api/generate/result/{task}")).json()
    used = result.pop("parameters_used")

    assert result == {"task_id": task, "status": "done", "generation_time": 1.5, "model_used": "by-hand"}
    assert used.pop("timestamp") > 0
    assert used == {
        "prompt": "remove object",
        "negative_prompt": None,
        "num_inference_steps": 15,
        "guidance_scale": 2.0,
        "true_cfg_scale": 2.0,
        "seed": 42,
        "image_size": "64x48",
        "generation_time": 1.5,
        "has_reference_image": False,
        "task_type": "removal",
    }


async def test_the_picture_is_the_stored_file_and_may_be_kept_for_ever(client: Client, worker: WorkerByHand) -> None:
    """With its media type and a strong ETag; a client with a copy receives 304."""
    task = await client.submit()
    await worker.finish(task, png("green"))
    picture = await client.get(f"/api/generate/result-image/{task}")
    again = await client.get(f"/api/generate/result-image/{task}", headers={"If-None-Match": picture.headers["etag"]})

    assert picture.content == png("green")
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert picture.headers["x-content-type-options"] == "nosniff"
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", picture.headers["etag"])


async def test_a_cancel_takes_effect_at_once(client: Client, worker: WorkerByHand) -> None:
    """The job is queued and no worker is running."""
    task = await client.submit()
    answer = await client.post(f"/api/generate/async/cancel/{task}", headers={"Content-Type": "application/json"})
    status = await client.get(f"/api/generate/status/{task}")

    assert (answer.status_code, answer.json()["success"], answer.json()["task_id"]) == (200, True, task)
    assert status.json()["status"] == "cancelled"
    assert await worker.ends(task) == ["cancelled"]


async def test_a_cancel_may_come_twice_or_too_late(client: Client, worker: WorkerByHand) -> None:
    """It has no effect and succeeds; only an unknown job is an error."""
    cancelled, done = await client.submit(), await client.submit()
    await client.post(f"/api/generate/async/cancel/{cancelled}")
    await worker.finish(done)
    answers = [await client.post(f"/api/generate/async/cancel/{task}") for task in (cancelled, done, "unknown")]

    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert await worker.ends(cancelled) == ["cancelled"]
    assert await worker.ends(done) == ["done"]


async def test_what_a_worker_says_after_a_cancel_is_not_heard(client: Client, worker: WorkerByHand) -> None:
    """The job stays cancelled."""
    task = await client.submit()
    await worker.start(task)
    await client.post(f"/api/generate/async/cancel/{task}")
    await worker.step(task, 2)
    status = await client.get(f"/api/generate/status/{task}")

    assert status.json()["status"] == "cancelled"
