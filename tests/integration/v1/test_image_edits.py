"""POST /v1/images/edits without a client library: refusals, waits, and authorization."""

from __future__ import annotations

import base64
import io
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from services.gateway import keys
from services.gateway.access.key_format import parse_key_id
from shared import subjects
from shared.messages import JobSubmit
from shared.settings import NatsSettings
from shared.topology import JOB_LOG
from tests.gateway import Client, WorkerByHand, gateway, png, saved
from tests.integration.keyed import WRITE, keyed_gateway
from tests.openai_forms import PATH, SIZE, alpha_mask, parts, send, sending, submit
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from shared.bus import Bus
    from shared.image_store import ImageStore
    from shared.settings import StreamSettings


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"n": 0}, "n", "integer_below_min_value"),
    ({"n": 11}, "n", "integer_above_max_value"),
    ({"n": "1.5"}, "n", "invalid_type"),
    ({"n": [1, 2]}, "n", "duplicate_parameter"),
    ({"image": ...}, "image", "missing_required_parameter"),
    ({"image": "photo"}, "image", "invalid_type"),
    ({"image": b"GIF89a"}, "image", "bad_image"),
    ({"image": [png(size=SIZE)] * 3}, "image", "too_many_images"),
    ({"mask": ...}, "mask", "missing_required_parameter"),
    ({"mask": [alpha_mask(), alpha_mask()]}, "mask", "duplicate_parameter"),
    ({"mask": png(size=SIZE)}, "mask", "bad_input"),
    ({"mask": alpha_mask((48, 64))}, "mask", "invalid_mask_size"),
    ({"mask": alpha_mask()[:-40]}, "mask", "bad_image"),
    ({"size": "256x256"}, "size", "unsupported_size"),
    ({"size": "big"}, "size", "invalid_value"),
    ({"quality": "high"}, "quality", "invalid_value"),
    ({"background": "transparent"}, "background", "invalid_value"),
    ({"input_fidelity": "low"}, "input_fidelity", "invalid_value"),
    ({"output_format": "gif"}, "output_format", "invalid_value"),
    ({"output_format": "jpeg", "output_compression": 101}, "output_compression", "integer_above_max_value"),
    ({"output_compression": 50}, "output_compression", "invalid_value"),
    ({"response_format": "file"}, "response_format", "invalid_value"),
    ({"partial_images": 2}, "partial_images", "invalid_value"),
    ({"stream": "true", "partial_images": 4}, "partial_images", "integer_above_max_value"),
    ({"stream": "true", "response_format": "url"}, "response_format", "invalid_value"),
    ({"prompt": "x" * 32_001}, "prompt", "string_above_max_length"),
    ({"user": "x" * 257}, "user", "string_above_max_length"),
    ({"quality": b"high"}, "quality", "invalid_type"),
    ({"markup": b"a file"}, "markup", "unsupported_parameter"),
    ({"svg[model]": "x"}, "svg[model]", "unsupported_parameter"),
    ({f"unknown{number}": "x" for number in range(17)}, "unknown0", "unknown_parameter"),
]


BROKEN = [
    ("application/json", b"{}", 415, "unsupported_media_type"),
    ("multipart/form-data", b"x", 400, "invalid_multipart"),
    ("multipart/form-data; boundary=b", b"", 400, "invalid_multipart"),
    ("multipart/form-data; boundary=b", b"--c\r\n\r\nx\r\n--c--\r\n", 400, "invalid_multipart"),
    ("multipart/form-data; boundary=b", b"--b\r\nA: b\r\n\r\nx\r\n--b--\r\n", 400, "invalid_multipart"),
    (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\n2\r\n--b\r\n',
        400,
        "invalid_multipart",
    ),
]


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the error of an answer in the form of OpenAI's API."""
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


async def read_log(bus: Bus, job_id: str) -> tuple[str, JobSubmit]:
    """Return the class and the submission of a job."""
    (entry,) = await bus.history(JOB_LOG, subjects.submissions_of(job_id))
    return subjects.parse_submission(entry.subject).job_class, JobSubmit.model_validate_json(entry.data)


async def test_what_cannot_be_obeyed_is_refused(client: Client, bus: Bus) -> None:
    """With status 400, the field and a sentence; no job begins."""
    for fields, param, code in REFUSED:
        answer = await send(client, **fields)
        error = error_of(answer)

        assert (answer.status_code, error["param"], error["code"]) == (400, param, code), fields
        assert error["type"] == "invalid_request_error"
        assert error["message"].endswith((".", "'."))
    await submit(bus, 0)


async def test_another_model_is_not_found(client: Client) -> None:
    """Its name would be a promise that this server cannot keep."""
    answer = await send(client, model="gpt-image-1.5")

    assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")


async def test_a_broken_form_is_refused(client: Client) -> None:
    """Also one that ends early: its last fields are missing."""
    for kind, body, status, code in BROKEN:
        answer = await client.post(PATH, content=body, headers={"Content-Type": kind})

        assert (answer.status_code, error_of(answer)["code"]) == (status, code), body


async def test_a_form_of_too_many_parts_is_refused(client: Client) -> None:
    """Before all of them are in memory as objects."""
    answer = await client.post(PATH, files=[("image", ("a.png", b"x"))] * 21)

    assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid_multipart")


async def test_an_edit_returns_the_result(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """As base64, with the size and the id of its job."""
    async with sending(client, user="user-1") as task:
        (job_id,) = await submit(bus)
        result = await worker.finish(job_id, png("red", SIZE))
        answer = await task

    job_class, submission = await read_log(bus, job_id)
    body = answer.json()
    assert answer.status_code == 200
    assert (body["size"], body["output_format"], body["safety_identifier"]) == ("64x48", "png", "user-1")
    assert body["data"] == [{"b64_json": base64.b64encode(png("red", SIZE)).decode(), "job_id": job_id}]
    assert len(answer.content) == int(answer.headers["content-length"])
    assert (job_class, submission.task, submission.prompt) == ("interactive", "removal", "")
    assert submission.exact_mask
    assert result.sha256


async def test_a_mask_is_white_where_it_was_transparent(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """The worker gets one of ours."""
    async with sending(client) as task:
        (job_id,) = await submit(bus)
        await worker.finish(job_id)
        await task

    _, submission = await read_log(bus, job_id)
    mask = await client.get(f"/v1/images/{submission.mask}")
    assert mask.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(mask.content)).getbbox() == (10, 10, 30, 30)


async def test_failures_of_a_batch_are_reported_singly(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """Three images in order: the second has an error instead of a picture."""
    async with sending(client, n=3) as task:
        ids = await submit(bus, 3)
        await worker.finish(ids[2], png("blue", SIZE))
        await worker.fail(ids[1], "The engine could not finish this job.")
        await worker.finish(ids[0], png("red", SIZE))
        answer = await task

    data = answer.json()["data"]
    submissions = [await read_log(bus, job_id) for job_id in ids]
    assert [item["job_id"] for item in data] == ids
    assert [base64.b64decode(item["b64_json"] or "") for item in data] == [png("red", SIZE), b"", png("blue", SIZE)]
    assert data[1]["error"]["code"] == "engine_failed"
    assert {job_class for job_class, _ in submissions} == {"batch"}
    assert len({submission.seed for _, submission in submissions}) == 3
    assert [submission.variant or 0 for _, submission in submissions] == [0, 1, 1]


async def test_an_edit_that_failed_is_an_error(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """That the client shall not repeat: the job has had its attempts."""
    async with sending(client) as task:
        (job_id,) = await submit(bus)
        await worker.fail(job_id, "The engine could not finish this job.")
        answer = await task

    assert (answer.status_code, error_of(answer)["code"]) == (500, "engine_failed")
    assert answer.headers["x-should-retry"] == "false"


async def test_who_hangs_up_cancels_the_jobs(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """All of the batch: without an id their results could not be fetched."""
    async with sending(client, n=2):
        ids = await submit(bus, 2)

    for job_id in ids:
        await wait_until(partial(worker.ends, job_id), "the job has ended")
        assert await worker.ends(job_id) == ["cancelled"]


async def test_with_a_key_a_client_can_come_back(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """The same key waits for the same job, which goes on without its client."""
    key = {"Idempotency-Key": "order-17"}
    async with sending(client, key):
        (job_id,) = await submit(bus)

    async with sending(client, key) as task:
        await worker.finish(job_id, png("red", SIZE))
        answer = await task
    again = await client.post(PATH, files=parts(), headers=key)

    assert await submit(bus) == [job_id]
    assert await worker.ends(job_id) == ["done"]
    assert answer.json()["data"] == again.json()["data"]
    assert answer.json()["data"][0]["job_id"] == job_id


async def test_a_wait_has_an_end(
    nats_url: str, bus: Bus, stream_settings: StreamSettings, worker: WorkerByHand
) -> None:
    """The job is cancelled, and the client does not try again by itself."""
    async with gateway(NatsSettings(url=nats_url), stream_settings, result_wait_s=0.1) as hasty:
        answer = await send(hasty)

    (job_id,) = await submit(bus)
    assert (answer.status_code, error_of(answer)["code"]) == (504, "timeout")
    assert answer.headers["x-should-retry"] == "false"
    assert await worker.ends(job_id) == ["cancelled"]


async def test_a_waiting_edit_holds_no_memory_for_bodies(
    nats_url: str, bus: Bus, stream_settings: StreamSettings
) -> None:
    """Or a few edits would keep all uploads away until their jobs end."""
    photo, mask = saved(Image.effect_noise((600, 500), 100)), alpha_mask((600, 500))
    assert 250_000 < len(photo) < 350_000
    limits: dict[str, Any] = {"max_body_bytes": 400_000, "bodies_at_once": 1, "body_wait_s": 0.5}
    async with (
        gateway(NatsSettings(url=nats_url), stream_settings, **limits) as small,
        sending(small, image=photo, mask=mask),
    ):
        await submit(bus)
        second = await small.post("/v1/images", content=photo, headers={"Content-Type": "image/png"})

    assert second.status_code in {200, 201}


async def test_a_mask_that_protects_everything_changes_nothing(client: Client, bus: Bus) -> None:
    """No job is needed, and a URL opens the photo as PNG."""
    whole = await send(client, mask=alpha_mask(box=None), n=2)
    linked = await send(client, mask=alpha_mask(box=None), response_format="url")

    data = whole.json()["data"]
    picture = await client.get(linked.json()["data"][0]["url"])
    assert [item["job_id"] for item in data] == [None, None]
    assert base64.b64decode(data[0]["b64_json"]) == picture.content
    await submit(bus, 0)


async def test_a_key_that_is_revoked_during_the_wait_gets_no_picture(
    nats_url: str, bus: Bus, images: ImageStore, stream_settings: StreamSettings, tmp_path: Path
) -> None:
    """The job of a key outlives it; its result does not leave the gateway."""
    async with (
        keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path) as house,
        sending(house.alice) as task,
    ):
        (job_id,) = await submit(bus)
        keys.revoke(house.file, parse_key_id(house.keys["alice"]))

        async def is_refused() -> bool:
            return (await house.alice.get("/v1/jobs")).status_code == 401

        await wait_until(is_refused, "the key is refused")
        worker = WorkerByHand(bus, images, "alice")
        await worker.queue(job_id)
        await worker.finish(job_id)
        answer = await task

    assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")


async def test_a_key_needs_both_scopes(
    nats_url: str, bus: Bus, images: ImageStore, stream_settings: StreamSettings, tmp_path: Path
) -> None:
    """An edit uploads and submits, and its answer is a picture. Refusals have the same form."""
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path) as house:
        writer = Client(house.nobody.port, keys.new(house.file, "carol", frozenset({WRITE}), None))
        async with writer:
            nobody, viewer, writing = [await send(each) for each in (house.nobody, house.viewer, writer)]
        async with sending(house.alice, response_format="url") as task:
            (job_id,) = await submit(bus)
            worker = WorkerByHand(bus, images, "alice")
            await worker.queue(job_id)
            await worker.finish(job_id)
            answer = await task
        opened = await house.nobody.get(answer.json()["data"][0]["url"])

    assert (nobody.status_code, error_of(nobody)["code"]) == (401, "invalid_api_key")
    assert (viewer.status_code, error_of(viewer)["code"]) == (403, "forbidden")
    assert (writing.status_code, error_of(writing)["code"]) == (403, "insufficient_permissions")
    assert opened.content == png("red")
