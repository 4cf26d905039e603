"""Stores debug sessions, the images from which an edit was made, where every gateway replica can read them."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.a100worker.job.results import store_image
from shared import subjects
from shared.messages import DebugImage, DebugSession

if TYPE_CHECKING:
    from services.a100worker.backend import Edit
    from shared.bus import Bus
    from shared.image_codec import Rgb
    from shared.image_store import ImageStore
    from shared.messages import ImageRef, JobWork


async def store_session(
    bus: Bus, images: ImageStore, work: JobWork, edit: Edit, result: ImageRef, *, engine: str, duration_ms: int
) -> str:
    """Store the images and the session that lists them. Return the session's name. Raises Busy, BrokerUnavailable."""
    debug_images = await asyncio.gather(*(_store(images, label, image) for label, image in edit.conditions))
    now = datetime.now(UTC)
    session = DebugSession(
        name=f"{now:%Y%m%d_%H%M%S}_{secrets.randbelow(10**8):08d}",
        job_id=work.job_id,
        user=work.user,
        created_at=now.timestamp(),
        engine=engine,
        duration_ms=duration_ms,
        submit=work.submit,
        result=result,
        images=list(debug_images),
    )
    await bus.publish(subjects.debug_session(work.user, session.name), session, msg_id=session.name)
    return session.name


async def _store(images: ImageStore, label: str, image: Rgb) -> DebugImage:
    ref = await store_image(images, "debug", image)
    return DebugImage(label=label, sha256=ref.sha256, width=ref.width, height=ref.height)
