"""Rules R1 to R12 of the contract, without which the deployed client breaks."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from services.gateway.http import exception_handlers
from services.gateway.http.middleware import add_middleware
from services.gateway.http.startup_shell import StartupShell
from services.gateway.settings import Settings
from shared import rpc, subjects
from shared.messages import JobSubmit, Mask, MaskReply, MaskRequest
from shared.settings import NatsSettings
from shared.topology import JOB_LOG
from tests.gateway import ORIGIN, b64, edit, event_of, gateway, mask_png, png, saved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client, WorkerByHand


@pytest.fixture
async def segmentation(bus: Bus, images: NatsImageStore) -> AsyncIterator[list[MaskRequest]]:
    """Provide a segmentation service that always returns the same mask; yields the requests."""
    asked: list[MaskRequest] = []

    async def find(request: MaskRequest) -> MaskReply:
        asked.append(request)
        mask = await images.put("cache", png("white", mode="L"))
        return MaskReply(masks=[Mask(png=mask, score=0.9)], engine="by-hand")

    async with rpc.serve(bus, "segmentation", [rpc.Endpoint(subjects.SEG_MASK, MaskRequest, find)]):
        yield asked


# --- R1, R2: the live path ----------------------------------------------------------------------------------------


async def test_r1_submit_then_stream_then_both_results(client: Client, worker: WorkerByHand) -> None:
    """The live client's path: submit, read the stream to its end, fetch image and result in parallel."""
    picture = png("green")
    answer = await client.post("/api/generate/async", json=edit())
    task = answer.json()["task_id"]
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        await worker.queue(task)
        await worker.start(task)
        await worker.step(task, 1)
        await worker.finish(task, picture)
        await stream.rest()
    image, result = await asyncio.gather(
        client.get(f"/api/generate/result-image/{task}"), client.get(f"/api/generate/result/{task}")
    )

    assert answer.status_code == 200
    assert (image.status_code, image.content) == (200, picture)
    assert (result.status_code, result.json()["status"]) == (200, "done")


async def test_r2_the_body_ends_right_after_the_terminal_event(client: Client, worker: WorkerByHand) -> None:
    """The client fetches the result when the body ends, so the body ends with the job and not before."""
    task = await client.submit()
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        first = await stream.status_word()
        await worker.start(task)
        second = await stream.status_word()
        await worker.finish(task)
        words = [event_of(chunk)["status"] for chunk in await stream.rest() if chunk.startswith(b"data")]

    assert (first, second, words) == ("queued", "loading_pipeline", ["done"])


async def test_r2_the_stream_of_an_ended_job_is_one_event(client: Client, worker: WorkerByHand) -> None:
    """A stream of an ended job has its terminal state at once."""
    task = await client.submit()
    await worker.finish(task)
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        chunks = await stream.rest()

    assert [event_of(chunk)["status"] for chunk in chunks] == ["done"]


# --- R3, R4: failure and cancel -----------------------------------------------------------------------------------


async def test_r3_both_results_of_a_failed_job_have_its_error(client: Client, worker: WorkerByHand) -> None:
    """The client ignores the stream's error event and shows the result's `detail`."""
    task = await client.submit()
    await worker.fail(task, "The engine could not finish this job.")
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        (event,) = [event_of(chunk) for chunk in await stream.rest()]
    result = await client.get(f"/api/generate/result/{task}")
    image = await client.get(f"/api/generate/result-image/{task}")

    assert (event["status"], event["error"]) == ("error", "The engine could not finish this job.")
    assert (result.status_code, result.json()) == (500, {"detail": "The engine could not finish this job."})
    assert image.status_code == 500


async def test_r4_a_cancelled_job_says_exactly_request_cancelled(client: Client) -> None:
    """The client compares this text and then shows no error."""
    task = await client.submit()
    await client.post(f"/api/generate/async/cancel/{task}")
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        (event,) = [event_of(chunk) for chunk in await stream.rest()]
    result = await client.get(f"/api/generate/result/{task}")
    image = await client.get(f"/api/generate/result-image/{task}")

    assert event["status"] == "cancelled"
    assert (result.status_code, result.json()) == (409, {"detail": "Request cancelled"})
    assert image.status_code == 409


# --- R5: the bytes of the stream ----------------------------------------------------------------------------------


async def test_r5_each_event_is_one_data_line_and_a_blank_line(client: Client, worker: WorkerByHand) -> None:
    """`data:` first, one line of JSON, LF LF; no event, id or retry line, no CR anywhere."""
    task = await client.submit()
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        await worker.start(task)
        await worker.step(task, 1, message="two\nlines\r\nand more")
        await worker.finish(task)
        body = b"".join(await stream.rest())
    events = [block for block in body.split(b"\n\n") if not block.startswith(b":")]

    assert b"\r" not in body
    assert body.endswith(b"\n\n")
    assert events.pop() == b""
    assert all(event.startswith(b"data: {") and b"\n" not in event for event in events)
    assert [json.loads(event[6:])["status"] for event in events][-1] == "done"


async def test_r5_the_heartbeat_is_a_comment_with_its_own_blank_line(
    bus: Bus, nats_url: str, stream_settings: StreamSettings
) -> None:
    """A comment glued to a data line would hide the event from the client's parser."""
    async with gateway(NatsSettings(url=nats_url), stream_settings, heartbeat_s=0.1) as client:
        assert bus.is_connected
        async with await client.open_stream(f"/api/generate/stream/{await client.submit()}") as stream:
            chunks = [await stream.chunk() for _ in range(4)]
    events = [chunk for chunk in chunks if chunk.startswith(b"data: ")]
    heartbeats = [chunk for chunk in chunks if chunk not in events]

    assert len(events) == 1
    assert heartbeats == [b": ping\n\n"] * 3


async def test_r5_the_stream_says_what_it_is(client: Client) -> None:
    """The headers prevent buffering by proxies."""
    task = await client.submit()
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        head = stream.head.lower()

    assert "content-type: text/event-stream" in head
    assert "cache-control: no-cache" in head
    assert "x-accel-buffering: no" in head
    assert "x-content-type-options: nosniff" in head


# --- R6, R7, R8: errors -------------------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}
WRONG: dict[str, tuple[str, str, dict[str, Any]]] = {
    "unknown path": ("GET", "/api/nothing", {}),
    "unknown path outside": ("GET", "/nothing", {}),
    "wrong method": ("DELETE", "/api/generate/async", {}),
    "not JSON": ("POST", "/api/generate/async", {"content": b"{", "headers": JSON}),
    "another content type": (
        "POST",
        "/api/generate/async",
        {"content": b"{}", "headers": {"Content-Type": "text/plain"}},
    ),
    "not an object": ("POST", "/api/generate/async", {"json": [1]}),
    "no body": ("POST", "/api/smart-mask", {"headers": JSON}),
    "field of the wrong type": ("POST", "/api/generate/async", {"json": edit(prompt=["x"])}),
    "number out of range": ("POST", "/api/generate/async", {"json": edit(num_inference_steps=101)}),
    "broken base64": ("POST", "/api/generate/async", {"json": edit(input_image="not base64!")}),
    "not a picture": ("POST", "/api/image-utils/extract-object", {"json": {"image": b64(b"text"), "mask": b64(b"x")}}),
    "no mask": ("POST", "/api/generate/async", {"json": edit(conditional_images=..., mask_image="")}),
    "unknown job": ("GET", "/api/generate/status/nobody-knows-it", {}),
    "unknown picture": ("POST", "/api/smart-mask", {"json": {"image_id": "0" * 64, "auto_detect": True}}),
    "service down": ("POST", "/api/smart-mask", {"json": {"image": b64(png()), "auto_detect": True}}),
    "form without a file": ("POST", "/api/image-utils/white-balance", {"data": {"method": "auto"}}),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_r6_r7_r8_every_error_is_readable(client: Client, wrong: tuple[str, str, dict[str, Any]]) -> None:
    """CORS headers, a short plain string in `detail` and nothing else, and never the letters that mean GPU memory."""
    method, path, options = wrong
    answer = await client.request(method, path, **options)
    body = answer.json()

    assert answer.status_code in {404, 405, 415, 422, 503}
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert list(body) == ["detail"]
    assert isinstance(body["detail"], str)
    assert 10 < len(body["detail"]) < 200
    assert "oom" not in body["detail"].lower()
    assert "out of memory" not in body["detail"].lower()


async def test_r6_a_stream_has_cors_headers_too(client: Client) -> None:
    """Like each response."""
    task = await client.submit()
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        head = stream.head.lower()

    assert f"access-control-allow-origin: {ORIGIN}" in head


async def test_r6_malformed_data_in_the_broker_is_no_fault_of_the_request(client: Client, bus: Bus) -> None:
    """The job is not found, and the subject of the malformed record appears in the log only."""
    await bus.publish(subjects.job_record("local", "j1"), b"nonsense")
    answer = await client.get("/api/generate/status/j1")

    assert (answer.status_code, answer.json()) == (404, {"detail": "This job is unknown or has expired."})
    assert answer.headers["access-control-allow-origin"] == ORIGIN


async def test_r6_even_a_bug_of_ours_is_readable() -> None:
    """A route that crashes, behind the gateway's own middleware and error handlers, answers JSON with CORS headers."""
    app = FastAPI()
    exception_handlers.install(app)
    app.state.routes = app.router.routes

    @app.get("/api/broken")
    async def broken() -> None:
        raise RuntimeError("secret detail")

    shell = StartupShell()
    shell.open(app)
    transport = httpx.ASGITransport(add_middleware(shell, Settings(), None), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as page:
        answer = await page.get("/api/broken", headers={"Origin": ORIGIN})

    text = "Something went wrong. Try again; if it happens again, report the request id (X-Request-Id)."
    assert (answer.status_code, answer.json()) == (500, {"detail": text})
    assert answer.headers["x-request-id"]
    assert answer.headers["access-control-allow-origin"] == ORIGIN


async def test_r7_nothing_that_was_sent_comes_back(client: Client) -> None:
    """The live client shows the raw body of a refused submission, so it must not echo megabytes of base64."""
    answer = await client.post("/api/generate/async", json=edit(prompt=["SECRET" * 1000]))

    assert "SECRET" not in answer.text
    assert len(answer.content) < 200


# --- R9, R12: how pictures are written ----------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
async def test_r9_pictures_come_with_or_without_a_prefix(
    client: Client, segmentation: list[MaskRequest], prefix: str
) -> None:
    """The main canvas sends a data URL, everything else bare base64; answers have no prefix."""
    answer = await client.post("/api/smart-mask", json={"image": prefix + b64(png()), "auto_detect": True})

    assert answer.status_code == 200
    assert base64.b64decode(answer.json()["mask_base64"], validate=True) == png("white", mode="L")
    assert len(segmentation) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate/async", edit(input_image="blob:http://localhost:3000/5f1c")),
        ("/api/smart-mask", {"image": "blob:http://localhost:3000/5f1c", "image_id": None, "bbox": [1, 1, 9, 9]}),
    ],
)
async def test_r12_a_blob_address_is_explained(client: Client, path: str, body: dict[str, Any]) -> None:
    """After one edit the client sends the image's blob: URL instead of the image."""
    answer = await client.post(path, json=body)

    assert answer.status_code == 422
    assert "inside your browser" in answer.json()["detail"]


# --- R10, R11: accepted, and large --------------------------------------------------------------------------------


async def test_r10_a_job_can_be_read_as_soon_as_it_is_accepted(client: Client) -> None:
    """No worker is running yet."""
    task = await client.submit()
    status = await client.get(f"/api/generate/status/{task}")
    result = await client.get(f"/api/generate/result/{task}")
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        word = await stream.status_word()

    assert (status.status_code, status.json()["status"]) == (200, "queued")
    assert (result.status_code, result.json()) == (409, {"detail": "The job is still running."})
    assert (stream.status, word) == (200, "queued")


async def test_r11_large_pictures_travel_by_reference(client: Client, bus: Bus, images: NatsImageStore) -> None:
    """A body of tens of megabytes is accepted; the job's message has a few hundred bytes."""
    noise = saved(Image.frombytes("RGB", (2000, 2000), os.urandom(12_000_000)), compress_level=1)
    body = json.dumps(edit(input_image=b64(noise), reference_image="A" * 20_000_000)).encode()
    answer = await client.post("/api/generate/async", content=body, headers={"Content-Type": "application/json"})
    logged = await bus.first(JOB_LOG, subjects.submissions_of(answer.json()["task_id"]))
    assert logged is not None
    job = JobSubmit.model_validate_json(logged.data)

    assert len(body) > 35_000_000
    assert len(logged.data) < 1000
    assert await images.get("inputs", job.image) == noise


async def test_r11_the_mask_that_comes_twice_is_stored_once(client: Client, bus: Bus, images: NatsImageStore) -> None:
    """The name is the hash of its bytes."""
    task = await client.submit()
    again = await client.submit()
    jobs = [await bus.first(JOB_LOG, subjects.submissions_of(job)) for job in (task, again)]
    masks = {JobSubmit.model_validate_json(job.data).mask for job in jobs if job is not None}
    entries = await bus.subjects_in("OBJ_inputs", subjects.object_chunks("inputs", ">"))

    assert len(masks) == 1
    assert len(entries) == 2, "One picture, one mask."
    assert await images.get("inputs", str(masks.pop())) == mask_png()


async def test_r11_more_than_64_mib_are_refused(client: Client) -> None:
    """The declared length decides, and the response has CORS headers."""
    answer = await client.post("/api/generate/async", content=b"x" * (64 * 1024**2 + 1))

    assert (answer.status_code, answer.json()) == (413, {"detail": "The request is larger than 64 MiB."})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
