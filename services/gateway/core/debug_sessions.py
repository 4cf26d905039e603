"""Debug sessions as the deployed client knows them: files with fixed names and their metadata, or all in one archive.

The worker stores them in the broker, where every replica of the gateway finds them for a day; nothing is on a disk.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from shared import subjects
from shared.messages import DebugSession
from shared.topology import SESSIONS

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage
    from shared.image_store import Bucket, ImageStore

_NAME = re.compile(r"[0-9]{8}_[0-9]{6}_[0-9]{8}")
_STEMS = {  # label of a picture: name of its file
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
GUIDED = "mask_A"  # only insertions with a reference mask have this picture
_ISO_TIMESTAMP = 15  # characters of a session's name: 20260301_093000


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a session."""

    file: str
    what: str
    bucket: Bucket
    sha256: str
    width: int
    height: int


async def find(bus: Bus, user: str, name: str) -> DebugSession | None:
    """Return the user's session of this name, if there is one. Raises BrokerUnavailable."""
    if not _NAME.fullmatch(name):
        return None
    stored = await bus.last(SESSIONS, subjects.debug_session(user, name))
    return None if stored is None else _read(stored)


async def every(bus: Bus, user: str) -> list[DebugSession]:
    """Return all sessions of a user, newest first. Raises BrokerUnavailable."""
    found = [_read(stored) for stored in await bus.history(SESSIONS, subjects.debug_sessions_of(user))]
    return sorted((session for session in found if session), key=lambda session: session.created_at, reverse=True)


async def clean_up(bus: Bus, user: str, keep: int) -> int:
    """Remove all sessions but the newest, and return how many went; their pictures expire by themselves."""
    old = (await every(bus, user))[keep:]
    for session in old:
        await bus.purge(SESSIONS, subjects.debug_session(user, session.name))
    return len(old)


def shots(session: DebugSession) -> list[Shot]:
    """Return the pictures in the order of their file names, the result last."""
    found = [
        Shot(
            f"{_STEMS.get(image.label, f'08_{image.label}')}.png", image.label, "debug",
            image.sha256, image.width, image.height,
        )
        for image in session.images
    ]  # fmt: skip
    step = "09" if any(shot.what == GUIDED for shot in found) else "07"
    result = session.result
    generated = Shot(f"{step}_generated_output.png", "generated", "results", result.sha256, result.width, result.height)
    return [*sorted(found, key=lambda shot: shot.file), generated]


def metadata(session: DebugSession) -> dict[str, Any]:
    """Return what the file metadata.json says."""
    order, when = session.submit, datetime.fromtimestamp(session.created_at, UTC).isoformat()
    return {
        "session_id": session.name,
        "timestamp": session.name[:_ISO_TIMESTAMP],
        "created_at": when,
        "finalized_at": when,
        "success": True,
        "error": None,
        "images": {shot.file.removesuffix(".png"): _described(shot) for shot in shots(session)},
        "parameters": {
            "task_type": order.task.value,
            "prompt": order.prompt,
            "original_prompt": order.prompt,
            "negative_prompt": order.negative_prompt,
            "num_inference_steps": order.steps,
            "guidance_scale": order.guidance,
            "true_cfg_scale": order.guidance,
            "seed": order.seed,
            "width": session.result.width,
            "height": session.result.height,
            "input_quality": "original",
            "generation_time": session.duration_ms / 1000,
        },
        "lora_info": {"task_type": order.task.value, "loaded_adapters": [], "current_adapter": None},
        "research_metrics": {
            "timing": {"total_s": session.duration_ms / 1000},
            "device_info": {"engine": session.engine},
        },
    }


async def developed(images: ImageStore, session: DebugSession) -> dict[str, bytes]:
    """Return all pictures by file name. Raises ImageNotFound, BrokerUnavailable."""
    return {shot.file: await images.get(shot.bucket, shot.sha256) for shot in shots(session)}


def archive(pictures: dict[str, bytes], facts: dict[str, Any]) -> bytes:
    """Return a ZIP of the pictures and metadata.json."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as bundle:  # stored: PNG is compressed already
        for name, data in pictures.items():
            bundle.writestr(name, data)
        bundle.writestr("metadata.json", json.dumps(facts, indent=2))
    return file.getvalue()


def _read(stored: StoredMessage) -> DebugSession | None:
    try:
        return DebugSession.model_validate_json(stored.data)
    except ValidationError:  # a mark of deletion, or not of our making
        return None


def _described(shot: Shot) -> dict[str, Any]:
    return {
        "filename": shot.file,
        "step": shot.file[:2],
        "description": shot.what.replace("_", " "),
        "size": [shot.width, shot.height],
        "mode": "RGB",
    }
