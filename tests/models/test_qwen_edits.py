"""Edits with the diffusion engine as users have them: through gateway, broker, job manager and a worker with it."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from services.a100worker.backends.qwen.engine import Qwen
from services.a100worker.backends.qwen.memory.oom_fallback import Fallback
from shared import rpc, subjects
from shared.image_codec import decode_photo, encode_png
from shared.messages import Done, Failed, HealthReply, HealthRequest, Progress, Task
from tests.models.conftest import ON_THE_CPU
from tests.models.edits import HEIGHT, MASK, WIDTH, piece
from tests.v1_client import read_events, upload
from tests.waiting import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from services.a100worker.backend import PhaseReporter
    from services.a100worker.settings import Settings
    from shared.image_store import NatsImageStore
    from shared.messages import Terminal
    from tests.gateway import Client
    from tests.running import Desk


class Cramped(Qwen):
    """The engine on a card that is too small for the first pass of each picture."""

    def __init__(self, settings: Settings, loading: PhaseReporter) -> None:
        super().__init__(settings, loading)
        self.asked = 0
        self.painter.pipeline.transformer.register_forward_pre_hook(self._refuse)

    def _refuse(self, *_: object) -> None:
        self.asked += 1
        if self.asked == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")


class Lost(Qwen):
    """The engine on a card that breaks with its first job."""

    def __init__(self, settings: Settings, loading: PhaseReporter) -> None:
        super().__init__(settings, loading)
        self.painter.pipeline.transformer.register_forward_pre_hook(self._break)

    def _break(self, *_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


@pytest.fixture
async def site(client: Client, desk: Desk, qwen_models: Path) -> AsyncIterator[Client]:
    """Run the system with one worker on the tiny checkpoint."""
    async with desk.manager(), desk.worker("qwen", model_dir=qwen_models, **ON_THE_CPU):
        yield client


async def run_edit(site: Client, task: Task, image: bytes, **more: Any) -> tuple[str, np.ndarray[Any, Any]]:
    """Submit an edit of a picture, follow it to its end and return its id and the result."""
    order = {"task": task, "image": await upload(site, image), "seed": 5, "steps": 3, **more}
    answer = await site.post("/v1/jobs", json=order)
    assert answer.status_code == 202, answer.text
    job_id = str(answer.json()["id"])
    async with await site.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        events = await read_events(stream)
    assert events[-1].name == "done", events[-1]
    result = await site.get(f"/v1/jobs/{job_id}/result")
    return job_id, decode_photo(result.content).rgb


@pytest.mark.parametrize("task", list(Task))
async def test_every_task_is_done_at_the_upload_s_size(site: Client, task: Task) -> None:
    """Twice the same bytes; outside the edited region those of the upload."""
    photo = piece()
    order: dict[str, Any] = {"prompt": "please"}
    if task is not Task.WHITE_BALANCE:
        order["mask"] = await upload(site, encode_png(MASK))
    if task is Task.INSERTION:
        order["reference"] = await upload(site, encode_png(piece("coffee", 80, 120)))

    job_id, picture = await run_edit(site, task, encode_png(photo), **order)
    _, again = await run_edit(site, task, encode_png(photo), **order)
    receipt = (await site.get(f"/v1/jobs/{job_id}/receipt")).json()

    assert picture.shape == photo.shape
    assert np.array_equal(picture, again)
    assert not np.array_equal(picture, photo)
    assert (receipt["engine"], receipt["pixels_changed_outside_mask"]) == ("qwen", 0)
    assert (receipt["recipe"], receipt["windows"]) == ("adapter", [[0, 0, WIDTH, HEIGHT]])
    assert receipt["adapters"].keys() == {task}


async def test_an_insertion_with_a_reference_mask_follows_its_outline(site: Client) -> None:
    """Set into the marked region at its own proportions; nothing near the picture's rim is touched."""
    outline = np.zeros((80, 120), np.uint8)
    outline[20:60, 40:80] = 255
    order = {
        "mask": await upload(site, encode_png(MASK)),
        "reference": await upload(site, encode_png(piece("coffee", 80, 120))),
        "reference_mask": await upload(site, encode_png(outline)),
    }

    _, picture = await run_edit(site, Task.INSERTION, encode_png(piece()), **order)

    changed = np.any(picture != piece(), axis=2)
    assert changed[:10].sum() == 0
    assert changed[30:60, 35:55].mean() > 0.9


@pytest.mark.usefixtures("site")
async def test_health_names_the_recipe_of_each_task(desk: Desk) -> None:
    """An operator sees which tasks have an adapter."""
    reply = await rpc.call(desk.bus, subjects.health("a100worker"), HealthRequest(), HealthReply, timeout_s=TIMEOUT_S)

    loaded = {"engine": "qwen", "model": "Qwen-Image-Edit-2509", "device": "cpu"}
    shown = {name: text for name, text in reply.detail.items() if name != "missing_formats"}  # of the machine
    assert shown == loaded | {f"recipe of {task}": "adapter" for task in Task}


async def test_a_transparent_upload_is_edited_on_white(site: Client) -> None:
    """The model takes three channels, and would stop at four."""
    rgba = np.dstack([piece(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    rgba[:, :20, 3] = 0
    mask = await upload(site, encode_png(MASK))

    _, picture = await run_edit(site, Task.REMOVAL, encode_png(rgba), mask=mask)

    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert (picture[:, :10] == 255).all()


async def test_a_photo_taken_sideways_is_edited_upright(site: Client) -> None:
    """With the mask as the user saw it."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(np.rot90(piece()).copy()).save(file, "JPEG", quality=95, exif=exif)
    upright = decode_photo(file.getvalue()).rgb
    mask = await upload(site, encode_png(MASK))

    _, picture = await run_edit(site, Task.REMOVAL, file.getvalue(), mask=mask)

    assert upright.shape == picture.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(picture[:10], upright[:10])


async def test_the_events_tell_the_steps_and_show_the_picture(site: Client) -> None:
    """Each step once; a preview has the picture's proportions, and at most 20 kB."""
    order = {"task": "white-balance", "image": await upload(site, encode_png(piece())), "steps": 4}
    job_id = (await site.post("/v1/jobs", json=order)).json()["id"]

    async with await site.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        events = await read_events(stream)

    steps = [event.facts["step"] for event in events if event.name == "progress" and event.facts["step"]]
    assert steps == [1, 2, 3, 4]
    shown = [base64.b64decode(event.facts["jpeg_base64"]) for event in events if event.name == "preview"]
    assert shown
    assert max(map(len, shown)) <= 20_000
    assert decode_photo(shown[0]).rgb.shape == (15, 17, 3)


async def test_a_cancel_is_heard_and_the_worker_goes_on(site: Client) -> None:
    """The next job gets the same picture as without the cancel."""
    image = encode_png(piece())
    _, expected = await run_edit(site, Task.WHITE_BALANCE, image)
    order = {"task": "white-balance", "image": await upload(site, image), "steps": 100}
    job_id = (await site.post("/v1/jobs", json=order)).json()["id"]
    async with await site.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        while b'"step":' not in await stream.chunk():
            pass
        await site.delete(f"/v1/jobs/{job_id}")
        last = (await read_events(stream))[-1]

    _, picture = await run_edit(site, Task.WHITE_BALANCE, image)

    assert last.name == "cancelled"
    assert np.array_equal(picture, expected)


async def run_job(desk: Desk, job_id: str, **order: Any) -> tuple[Terminal, list[str]]:
    """Return a job's end, and the messages on the way."""
    await desk.submit(job_id, steps=2, **order)
    end = await desk.outcome(job_id)
    events = await desk.events(job_id)
    return end, [event.message for event in events if isinstance(event, Progress) and event.message]


async def test_a_card_that_is_too_small_makes_a_job_slower_not_lost(desk: Desk, qwen_models: Path) -> None:
    """The user sees which fallback was taken; the next job of the size starts with it."""
    async with desk.manager(), desk.worker(f"{__name__}:Cramped", model_dir=qwen_models, **ON_THE_CPU):
        first, told = await run_job(desk, "j1")
        second, told_later = await run_job(desk, "j2")

    assert isinstance(first, Done), first
    assert isinstance(second, Done), second
    assert {Fallback.NONE.sentence, Fallback.TILES.sentence} <= set(told)
    assert Fallback.TILES.sentence in told_later
    assert Fallback.NONE.sentence not in told_later


async def test_a_job_that_cannot_be_done_fails_alone(desk: Desk, images: NatsImageStore, qwen_models: Path) -> None:
    """With the reason, and without a second try."""
    async with desk.manager(), desk.worker("qwen", model_dir=qwen_models, **ON_THE_CPU):
        nothing = await images.put("inputs", encode_png(np.zeros((HEIGHT, WIDTH), np.uint8)))
        end, _ = await run_job(desk, "j1", task=Task.REMOVAL, mask=nothing.sha256)

    assert isinstance(end, Failed)
    assert (end.message, end.attempt) == ("The mask marks nothing to remove.", 1)


async def test_a_worker_whose_card_is_lost_ends_and_its_job_is_done_by_another(desk: Desk, qwen_models: Path) -> None:
    """The process could do no later job either; one that is started again can."""
    variables = {f"A100WORKER_{name.upper()}": str(value) for name, value in ON_THE_CPU.items()}
    async with desk.manager():
        await desk.submit("j1", steps=2)
        async with desk.worker_process(f"{__name__}:Lost", MODEL_DIR=str(qwen_models), **variables) as worker:
            code = await worker.wait()
        async with desk.worker("qwen", model_dir=qwen_models, **ON_THE_CPU):
            end = await desk.done("j1")

    assert code == 1
    assert end.attempt == 2
