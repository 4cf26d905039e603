"""Debug sessions of edits in the deployed client's format: image files with fixed names, and their metadata.

The worker stores a session in the broker for a day, so every replica of the gateway can read it.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.errors import ImageNotFound
from shared.messages import DebugSession
from shared.reading import read_or_skip
from shared.topology import SESSIONS

if TYPE_CHECKING:
    from services.gateway.access.ownership import Ownership
    from services.gateway.core.stores import Stores
    from shared.bus import Bus
    from shared.image_store import Bucket, StreamedStore
    from shared.messages import ImageRef

_NAME = re.compile(r"[0-9]{8}_[0-9]{6}_[0-9]{8}")
_STEMS = {  # file name by image label
    "original": "01_input_image",
    "input": "01_input_image",
    "mask": "02_mask_image",
    "mask_A": "02_main_mask_A",
    "canny": "03_canny_edge",
    "masked_bg": "03_masked_bg",
    "reference_image": "03_reference_image",
    "dilated_mask": "04_dilated_mask",
    "ref_img": "04_reference_image",
    "mae": "05_mae_output",
    "positioned_mask_R": "05_positioned_mask_R",
    "positioned_mask": "06_positioned_mask",
    "masked_R": "07_masked_R",
}
GUIDED = "mask_A"  # only insertions with a reference mask have an image of this label
_TIMESTAMP_LENGTH = len("20260301_093000")  # the start of a session's name


@dataclass(frozen=True, slots=True)
class SessionFile:
    """An image of a session; width and height in pixels."""

    name: str
    label: str
    bucket: Bucket
    sha256: str
    width: int
    height: int


async def find_session(bus: Bus, ownership: Ownership, owner: str, name: str) -> DebugSession | None:
    """Return the owner's session with this name, or None. Raises BrokerUnavailable."""
    if not _NAME.fullmatch(name):
        return None
    stored = await bus.first(SESSIONS, ownership.debug_session(owner, name))
    return read_or_skip(DebugSession, stored)


async def list_sessions(bus: Bus, ownership: Ownership, owner: str) -> list[DebugSession]:
    """Return all sessions of an owner, newest first. Raises BrokerUnavailable."""
    found = [
        read_or_skip(DebugSession, stored) for stored in await bus.history(SESSIONS, ownership.debug_sessions(owner))
    ]
    return [session for session in reversed(found) if session]  # not by their times: the clocks of workers may differ


async def clean_up(bus: Bus, ownership: Ownership, stores: Stores, owner: str, keep: int) -> int:
    """Delete all but the newest `keep` sessions with their images; return their number. Raises BrokerUnavailable."""
    old = (await list_sessions(bus, ownership, owner))[keep:]
    await stores.remove_sessions(old)
    return len(old)


def files_of(session: DebugSession) -> list[SessionFile]:
    """Return the session's images in the order of their file names, the result last."""
    files = [
        SessionFile(
            f"{_STEMS.get(image.label, f'08_{image.label}')}.png", image.label, "debug",
            image.sha256, image.width, image.height,
        )
        for image in session.images
    ]  # fmt: skip
    step = "09" if any(file.label == GUIDED for file in files) else "07"
    ref = session.result
    result = SessionFile(f"{step}_generated_output.png", "generated", "results", ref.sha256, ref.width, ref.height)
    return [*sorted(files, key=lambda file: file.name), result]


def metadata_of(session: DebugSession) -> dict[str, Any]:
    """Return the content of the file metadata.json."""
    submission, when = session.submit, datetime.fromtimestamp(session.created_at, UTC).isoformat()
    return {
        "session_id": session.name,
        "timestamp": session.name[:_TIMESTAMP_LENGTH],
        "created_at": when,
        "finalized_at": when,
        "success": True,
        "error": None,
        "images": {file.name.removesuffix(".png"): _image_metadata(file) for file in files_of(session)},
        "parameters": {
            "task_type": submission.task.value,
            "prompt": submission.prompt,
            "original_prompt": submission.prompt,
            "negative_prompt": submission.negative_prompt,
            "num_inference_steps": submission.steps,
            "guidance_scale": submission.guidance,
            "true_cfg_scale": submission.guidance,
            "seed": submission.seed,
            "width": session.result.width,
            "height": session.result.height,
            "input_quality": "original",
            "generation_time": session.duration_ms / 1000,
        },
        "lora_info": {"task_type": submission.task.value, "loaded_adapters": [], "current_adapter": None},
        "research_metrics": {
            "timing": {"total_s": session.duration_ms / 1000},
            "device_info": {"engine": session.engine},
        },
    }


async def find_images(images: StreamedStore, session: DebugSession) -> dict[str, ImageRef]:
    """Return all images by file name, each with all its bytes. Raises ImageNotFound, BrokerUnavailable."""
    async with aclosing(images.stream(session.result.bucket, session.result.sha256)) as pieces:
        await anext(pieces)  # a missing result must not cut off an archive
    return {file.name: await find_image(images, session, file) for file in files_of(session)}


async def find_image(images: StreamedStore, session: DebugSession, file: SessionFile) -> ImageRef:
    """Return the image of a file without checking that a result exists. Raises ImageNotFound, BrokerUnavailable."""
    # `head` would store an old result again, and results are the workers'.
    ref = session.result if file.bucket == "results" else await images.head(file.bucket, file.sha256)
    if ref is None:
        raise ImageNotFound
    return ref


def _image_metadata(file: SessionFile) -> dict[str, Any]:
    return {
        "filename": file.name,
        "step": file.name[:2],
        "description": file.label.replace("_", " "),
        "size": [file.width, file.height],
        "mode": "RGB",
    }
