"""Debug sessions: the pictures that an edit was made from, stored where every replica of the gateway can read them."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.a100worker.job.results import store_picture
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
    """Store the pictures and the session that names them, and return its name. Raises Busy, BrokerUnavailable."""
    labelled = await asyncio.gather(*(_store(images, label, picture) for label, picture in edit.conditions))
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
        images=list(labelled),
    )
    await bus.publish(subjects.debug_session(work.user, session.name), session, msg_id=session.name)
    return session.name


async def _store(images: ImageStore, label: str, picture: Rgb) -> DebugImage:
    ref = await store_picture(images, "debug", picture)
    return DebugImage(label=label, sha256=ref.sha256, width=ref.width, height=ref.height)
