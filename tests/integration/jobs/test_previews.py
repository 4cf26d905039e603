"""Previews travel from the engine through the broker to followers of the job on /v1, and nowhere else."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.job.previews import PreviewEncoder
from services.a100worker.job.progress import ProgressPublisher
from shared.image_codec import decode_photo
from shared.messages import Preview
from tests.fakes import ShowingEngine
from tests.unit.services.a100worker.recorder import noise
from tests.v1_client import read_events

if TYPE_CHECKING:
    from tests.gateway import Client
    from tests.running import Desk

SHOWING = f"{ShowingEngine.__module__}:{ShowingEngine.__name__}"


async def finished_job(desk: Desk) -> str:
    """Run a job with previews and return its id."""
    async with desk.manager(), desk.worker(SHOWING):
        await desk.submit("j1", user="local")
        await desk.done("j1")
    return "j1"


async def test_v1_shows_how_the_picture_looks_by_now(desk: Desk, client: Client) -> None:
    """As a small JPEG inside the event, behind the step that it belongs to: the first, or one that came later."""
    job_id = await finished_job(desk)

    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        events = await read_events(stream)

    names = [event.name for event in events]
    at = names.index("preview")
    assert [*names[:at], *names[at + 1 :]] == ["queued", "started", "progress", "progress", "progress", "done"]
    shown = events[at].facts
    assert shown["step"] == events[at - 1].facts["step"]
    picture = decode_photo(base64.b64decode(shown["jpeg_base64"])).rgb
    colour = 255 * np.eye(3)[shown["step"] - 1]
    assert np.abs(picture.mean(axis=(0, 1)) - colour).max() < 10


async def test_the_deployed_client_never_sees_one(desk: Desk, client: Client) -> None:
    """It expects states only, and estimates the time left from the gaps between them."""
    async with desk.manager():
        await desk.submit("j1", user="local")
        async with await client.open_stream("/api/generate/stream/j1") as stream, desk.worker(SHOWING):
            frames = [json.loads(frame.removeprefix(b"data: ")) for frame in await stream.rest() if frame[:1] == b"d"]

    assert [frame["current_step"] for frame in frames if frame["current_step"]] == [1, 2, 3]
    assert frames[-1]["status"] == "done"
    assert not [frame for frame in frames if "jpeg_base64" in frame or "preview" in json.dumps(frame)]


async def test_of_a_job_s_previews_the_newest_is_kept(desk: Desk) -> None:
    """All previews together would push other jobs' events out of the stream."""
    progress = ProgressPublisher(desk.bus, "j1", PreviewEncoder(clock=itertools.count().__next__))
    for step in (1, 2, 3):
        await asyncio.to_thread(progress, step, 4, preview=noise(8, 8, seed=step))
    progress.finish()
    await progress.publish()

    stored = [event for event in await desk.events("j1") if isinstance(event, Preview)]

    assert [preview.step for preview in stored] == [3]
