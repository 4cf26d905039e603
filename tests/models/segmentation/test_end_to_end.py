"""From the client's request to the mask: gateway, broker and segmentation service are real, the models tiny."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from services.segmentation import service as segmentation
from services.segmentation.caches.feature_cache import pack, unpack
from services.segmentation.masks import iou
from shared.image_codec import decode_mask, encode_jpeg, encode_png
from shared.settings import NatsSettings
from tests.gateway import b64
from tests.models.segmentation.conftest import FASTSAM, settings_for
from tests.models.segmentation.scenes import Scene, Shape, scene, scenes
from tests.v1_client import beside, upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.segmentation.settings import Settings
    from shared.bus import Bus
    from shared.image_codec import Grey
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client

ROOT = Path(__file__).parents[3]
RIGHT = 0.75
SCENE = scene(3)


@pytest.fixture
def settings(segmentation_models: Path, nats_url: str, stream_settings: StreamSettings) -> Settings:
    """Both engines, FastSAM first."""
    return settings_for(
        segmentation_models, backends="fastsam,birefnet", nats=NatsSettings(url=nats_url), streams=stream_settings
    )


@asynccontextmanager
async def replica(bus: Bus, settings: Settings) -> AsyncIterator[None]:
    """Provide a segmentation service with empty caches."""
    async with beside(bus, segmentation.NAME, segmentation.run, settings):
        yield


async def smart_mask(client: Client, seen: Scene, **prompt: Any) -> Grey:
    """Ask as the deployed client does, with the whole picture as a data URL."""
    picture = "data:image/png;base64," + b64(encode_png(seen.image))
    answer = await client.post("/api/smart-mask", json={"image": picture, **prompt})
    assert answer.status_code == 200, answer.text
    return decode_mask(base64.b64decode(answer.json()["mask_base64"]))


def prompts(shape: Shape) -> dict[str, dict[str, Any]]:
    """Every way of pointing at a shape that the deployed client has."""
    painted = np.roll(shape.mask, 3, axis=1)
    return {
        "points": {"points": [list(shape.middle)]},
        "box": {"bbox": list(map(float, shape.box))},
        "mask": {"mask": b64(encode_png(painted))},
    }


@pytest.mark.parametrize("model", ["segmentation", "fastsam", "birefnet"])
async def test_each_shape_is_found_through_all_services(
    bus: Bus, settings: Settings, client: Client, model: str
) -> None:
    """By a point, a box and a painted area; `segmentation` is the first engine, FastSAM."""
    async with replica(bus, settings):
        found = {
            (number, how): iou(await smart_mask(client, SCENE, model_type=model, **prompt), shape.mask)
            for number, shape in enumerate(SCENE.shapes)
            for how, prompt in prompts(shape).items()
        }

    assert len(found) == 12
    assert min(found.values()) > RIGHT, found


async def test_requests_at_once_get_their_own_masks(bus: Bus, settings: Settings, client: Client) -> None:
    """Twenty-four prompts on six new pictures, all at the same time."""
    work = [(seen, shape) for seen in list(scenes(6)) for shape in seen.shapes]
    async with replica(bus, settings.model_copy(update={"waiting": 30, "concurrency": 4})):
        masks = await asyncio.gather(*(smart_mask(client, seen, points=[list(shape.middle)]) for seen, shape in work))

    assert min(iou(mask, shape.mask) for mask, (_, shape) in zip(masks, work, strict=True)) > RIGHT


async def test_a_click_on_nothing_is_told_in_the_clients_words(bus: Bus, settings: Settings, client: Client) -> None:
    """The client looks for them."""
    picture = b64(encode_png(SCENE.image))
    async with replica(bus, settings):
        answer = await client.post("/api/smart-mask", json={"image": picture, "points": [[160, 2]]})

    assert answer.status_code in range(400, 500)
    assert "No masks found" in answer.json()["detail"]


async def test_candidates_and_engine_are_told_in_v1(bus: Bus, settings: Settings, client: Client) -> None:
    """With an upright photo that comes as a JPEG."""
    photo = await upload(client, encode_jpeg(SCENE.image, 95))
    x, y = SCENE.shapes[1].middle
    async with replica(bus, settings):
        found = (await client.post("/v1/masks", json={"image": photo, "points": [[x, y, 1]], "candidates": 3})).json()

    assert (found["engine"], found["note"]) == ("fastsam", None)
    assert 1 <= len(found["candidates"]) <= 3


async def test_what_one_replica_saw_the_next_one_believes(
    bus: Bus, settings: Settings, client: Client, images: NatsImageStore
) -> None:
    """The second replica uses the stored output: an empty one gives no mask."""
    photo, prompt = await upload(client, encode_png(SCENE.image)), prompts(SCENE.shapes[0])["box"]
    async with replica(bus, settings):
        assert iou(await smart_mask(client, SCENE, **prompt), SCENE.shapes[0].mask) > RIGHT
        (name,) = [entry async for entry in _names(bus, photo)]
        seen = unpack(await images.get_named("cache", name) or b"")
        assert seen is not None
        assert len(seen) >= 4
        await images.put_named("cache", name, pack(seen[:0]))
        assert iou(await smart_mask(client, SCENE, **prompt), SCENE.shapes[0].mask) > RIGHT  # it remembers

    async with replica(bus, settings):
        answer = await client.post("/api/smart-mask", json={"image": b64(encode_png(SCENE.image)), **prompt})
    assert "No masks found" in answer.json()["detail"]


async def _names(bus: Bus, photo: str) -> AsyncIterator[str]:
    """Return the names of the network's stored outputs for an image, as `nats obj ls cache` lists them."""
    bucket = await bus.client.jetstream().object_store("cache")
    for entry in await bucket.list():
        image, _, name = entry.name.partition("/")
        is_derived = re.fullmatch("[0-9a-f]{64}", name)  # the hash of a mask that was made from the image
        if image == photo and name and not is_derived and not name.startswith("mask-"):
            yield entry.name


def test_a_service_without_its_weights_ends_with_one_sentence(own_models: Path) -> None:
    """And the exit code of a wrong configuration, before it looks for a broker."""
    (own_models / "fastsam" / FASTSAM).unlink()
    ended = subprocess.run(
        [sys.executable, "-m", "services.segmentation"],
        cwd=ROOT,
        env={
            **os.environ,
            "MODEL_DIR": str(own_models),
            "SEGMENTATION_BACKENDS": "fastsam",
            "SEGMENTATION_FASTSAM_FILE": FASTSAM,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 78
    assert (
        f"The model file fastsam/{FASTSAM} is missing from MODEL_DIR; "
        "`python -m services.models pull fastsam` fetches it." in ended.stderr
    )
    assert "Traceback" not in ended.stderr
