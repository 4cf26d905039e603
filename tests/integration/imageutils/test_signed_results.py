"""Results in a requested format are signed if the operator has configured a certificate."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import c2pa
import numpy as np
import pytest

from deploy.signing_certificate import make_pair
from services.imageutils.service import NAME, run
from services.imageutils.settings import Settings
from services.imageutils.signing import RECEIPT_LABEL
from shared import rpc, subjects
from shared.image_codec import encode_png
from shared.marks import mark_result
from shared.messages import HealthReply, HealthRequest
from shared.settings import NatsSettings
from shared.source_types import SourceType
from tests import phone_photo
from tests.v1_client import beside, submit, upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client, WorkerByHand


@pytest.fixture(autouse=True)
async def signing_service(
    bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path
) -> AsyncIterator[None]:
    """Run the image utilities with a development certificate."""
    files = tmp_path / "signing.crt", tmp_path / "signing.key"
    for path, content in zip(files, make_pair(), strict=True):
        path.write_bytes(content)
    settings = Settings(
        nats=NatsSettings(url=nats_url),
        streams=stream_settings,
        signing_certificate_file=files[0],
        signing_key_file=files[1],
    )
    async with beside(bus, NAME, run, settings):
        yield


def read(content_type: str, data: bytes) -> tuple[str, dict[str, Any]]:
    """Return the state of a file and its active manifest."""
    with c2pa.Context() as context, c2pa.Reader(content_type, io.BytesIO(data), context=context) as reader:
        found = json.loads(reader.json())
    return found["validation_state"], found["manifests"][found["active_manifest"]]


async def test_a_download_names_its_receipt_and_the_receipt_the_result(client: Client, worker: WorkerByHand) -> None:
    """In every format. The stored PNG has no manifest, and an equal request gets the same file again."""
    photo = phone_photo.phone_jpeg()
    job_id = await submit(client, image=await upload(client, photo))
    result = encode_png(np.zeros((48, 64, 3), np.uint8), source_type=SourceType.COMPOSITE)
    await worker.finish(job_id, result)
    url = f"/v1/jobs/{job_id}"
    receipt, plain = await client.get(f"{url}/receipt"), await client.get(f"{url}/result")
    for wanted in ("original", "png", "jpeg", "webp", "avif"):
        answer = await client.get(f"{url}/result", params={"format": wanted})
        again = await client.get(f"{url}/result", params={"format": wanted})
        state, manifest = read(answer.headers["content-type"], answer.content)
        facts = {each["label"]: each["data"] for each in manifest["assertions"]}

        assert (answer.status_code, state) == (200, "Valid")
        assert facts[RECEIPT_LABEL] == {
            "receipt_sha256": hashlib.sha256(receipt.content).hexdigest(),
            "output_sha256": receipt.json()["output"],
        }
        assert facts["c2pa.actions.v2"]["actions"][-1]["digitalSourceType"] == SourceType.COMPOSITE
        assert again.content == answer.content
    assert plain.content == result
    assert b"c2pa" not in plain.content


async def test_a_result_that_made_room_is_signed(
    client: Client, worker: WorkerByHand, bus: Bus, images: NatsImageStore
) -> None:
    """Its copy among the images of the owner serves, and a result that is assembled."""

    async def is_needed() -> bool:
        return False

    photo = np.random.default_rng(4).integers(0, 256, (48, 64, 3), np.uint8)
    edited = photo.copy()
    edited[5:15, 3:23] = 7
    patch = await images.put("results", encode_png(edited[5:15, 3:23]))
    for is_copied in (False, True):
        job_id = await submit(client, image=await upload(client, encode_png(photo)))
        result = await worker.finish(job_id, encode_png(edited), patch)
        await mark_result(bus, "local", job_id, result)
        if is_copied:
            await upload(client, encode_png(edited))
        await images.remove("results", result.sha256, is_needed)
        answer = await client.get(f"/v1/jobs/{job_id}/result", params={"format": "png"})

        assert answer.status_code == 200
        assert read("image/png", answer.content)[0] == "Valid"


async def test_health_states_the_end_of_the_certificate(bus: Bus) -> None:
    """In time to renew it."""
    health = await rpc.call(bus, subjects.health(NAME), HealthRequest(), HealthReply, timeout_s=5)

    assert health.status == "healthy"
    assert health.detail["signing"].startswith("until 2")
