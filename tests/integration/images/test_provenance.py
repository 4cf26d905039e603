"""Results state how they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from shared.image_codec import encode_png
from shared.messages import Task
from shared.source_types import SourceType, find_source_type

if TYPE_CHECKING:
    from shared.image_store import NatsImageStore
    from tests.running import Desk


async def test_a_result_states_what_it_is_made_of(desk: Desk, images: NatsImageStore) -> None:
    """Also after a white balance, which adds nothing to that."""
    disc = cv2.circle(np.zeros((300, 451), np.uint8), (200, 150), 50, 255, -1)
    mask = await images.put("inputs", encode_png(np.asarray(disc, np.uint8)))
    async with desk.manager(), desk.worker():
        await desk.submit("j1", task=Task.REMOVAL, mask=mask.sha256)
        removed = await desk.done("j1")
        photo = await images.put("inputs", await images.get("results", removed.result.sha256))
        await desk.submit("j2", image=photo.sha256)
        balanced = await desk.done("j2")
        await desk.submit("j3")
        plain = await desk.done("j3")
    stated = [find_source_type(await images.get("results", end.result.sha256)) for end in (removed, balanced, plain)]

    assert stated == [SourceType.COMPOSITE, SourceType.COMPOSITE, None]
    assert [removed.source_type, balanced.source_type, plain.source_type] == stated
