"""Edits as a program makes them over /v1, for tests."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tests.containers.engine import ROOT
from tests.waiting import wait_until

if TYPE_CHECKING:
    import httpx
    from numpy.typing import NDArray

PHOTO = ROOT / "services/gateway/static/samples/coffee.jpg"
SPOON_BOX = [315, 195, 415, 335]
_ENDS = {"done", "failed", "cancelled"}


def pixels(data: bytes) -> NDArray[np.uint8]:
    """Return a picture file as RGB, H x W x 3."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def good(answer: httpx.Response) -> Any:
    """Return the JSON of a successful answer; fail the test with the text of any other."""
    assert answer.is_success, f"{answer.request.url}: {answer.status_code} {answer.text[:500]}"
    return answer.json()


async def upload(client: httpx.AsyncClient, data: bytes) -> str:
    """Store a picture and return its name."""
    answer = await client.post("/v1/images", content=data, headers={"Content-Type": "image/jpeg"})
    return str(good(answer)["sha256"])


async def order(client: httpx.AsyncClient, **fields: Any) -> str:
    """Submit a job and return its id."""
    return str(good(await client.post("/v1/jobs", json=fields))["id"])


async def wait_for_end(client: httpx.AsyncClient, job: str, timeout_s: float = 60) -> dict[str, Any]:
    """Wait until the job has ended and return how."""
    last: dict[str, Any] = {}

    async def over() -> bool:
        nonlocal last
        last = good(await client.get(f"/v1/jobs/{job}"))
        return last["status"] in _ENDS

    await wait_until(over, f"{job} has ended", timeout_s=timeout_s)
    return last


async def events(client: httpx.AsyncClient, job: str) -> list[tuple[str, dict[str, Any]]]:
    """Everything that has happened to a job until its end: names and facts."""
    told = (await client.get(f"/v1/jobs/{job}/events")).raise_for_status().text
    frames = [dict(line.split(": ", 1) for line in frame.splitlines() if ": " in line) for frame in told.split("\n\n")]
    return [(frame["event"], json.loads(frame["data"])) for frame in frames if "event" in frame]


async def remove_the_spoon(client: httpx.AsyncClient) -> None:
    """Photo, mask, removal, result; nothing but the spoon has changed."""
    photo = PHOTO.read_bytes()
    image = await upload(client, photo)
    found = good(await client.post("/v1/masks", json={"image": image, "box": SPOON_BOX}))
    job = await order(client, task="removal", image=image, mask=found["sha256"])
    assert (await wait_for_end(client, job))["status"] == "done"

    before = pixels(photo)
    after = pixels((await client.get(f"/v1/jobs/{job}/result")).raise_for_status().content)
    changed = (before != after).any(axis=2)
    left, top, right, bottom = SPOON_BOX
    about = np.zeros_like(changed)
    about[top - 20 : bottom + 20, left - 20 : right + 20] = True
    assert changed.sum() > 500, "The spoon is still there."
    assert not (changed & ~about).any(), "Something else has changed."
