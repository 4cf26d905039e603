"""A planned stop of segmentation while an engine is in a long step, as on a busy machine."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import pytest

from services.segmentation.service import NAME
from shared import rpc, subjects
from shared.errors import Stopping, Unavailable
from shared.messages import HealthReply, HealthRequest, MaskReply, MaskRequest
from tests.integration.segmentation.test_service import ON_THE_CUP, coffee
from tests.running import service_process
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from services.segmentation.backend import CachedFeatures, Candidate, Checkpoint, Prompt
    from services.segmentation.settings import Settings
    from shared.bus import Bus
    from shared.image_codec import Rgb

__all__ = ["coffee"]


class Deaf:
    """An engine with one step that does not end and calls no checkpoint. It opens the pipe `begun` at its start."""

    name = "deaf"
    note = None

    def __init__(self, settings: Settings) -> None:
        self._begun = settings.model_dir / "begun"

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """Wait for ever."""
        del image, prompt, cached, checkpoint
        self._begun.open("wb").close()
        threading.Event().wait()
        return []


async def is_served(bus: Bus) -> bool:
    """Return whether the service answers."""
    try:
        await rpc.call(bus, subjects.health(NAME), HealthRequest(), HealthReply, timeout_s=2)
    except Unavailable:
        return False
    return True


async def test_a_stop_does_not_wait_for_an_engine(bus: Bus, nats_url: str, coffee: str, tmp_path: Path) -> None:
    """The request that cannot end is answered, and the process ends with code 0 and without an alarm."""
    os.mkfifo(tmp_path / "begun")
    variables = {"MODEL_DIR": str(tmp_path), "SEGMENTATION_BACKENDS": f"{__name__}:Deaf", "SEGMENTATION_DRAIN_S": "0.1"}
    request = MaskRequest(request_id="r1", image=coffee, points=[ON_THE_CUP])
    async with service_process(NAME, NATS_URL=nats_url, **variables) as process:
        await wait_until(lambda: is_served(bus), "segmentation is healthy")
        asked = asyncio.create_task(rpc.call(bus, subjects.SEG_MASK, request, MaskReply, timeout_s=60), name="ask")
        await asyncio.to_thread((tmp_path / "begun").read_bytes)
        process.terminate()
        with pytest.raises(Stopping):
            await asked
        _, logged = await process.communicate()

    assert process.returncode == 0
    assert b"service.stopped" in logged
    assert b"service.hung" not in logged
