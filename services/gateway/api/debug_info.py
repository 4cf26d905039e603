"""What the deployed client's debug panel shows of an edit: labelled pictures in base64, in its own order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pybase64

from services.gateway.core.debug_sessions import GUIDED
from shared.errors import ImageNotFound
from shared.messages import Task

if TYPE_CHECKING:
    from shared.image_store import Bucket, ImageStore
    from shared.messages import DebugSession

_ORDER = {
    Task.WHITE_BALANCE: ("input", "canny"),
    Task.REMOVAL: ("original", "mask", "mae"),
    Task.INSERTION: ("ref_img", "mask", "masked_bg"),
}
_ORDER_GUIDED = ("original", "mask_A", "masked_R", "reference_image", "positioned_mask_R")
_ECHOES = {"image": "original_image", "mask": "mask_A", "reference": "reference_image"}
_ECHOES |= {"reference_mask": "reference_mask_R"}


async def debug_info(images: ImageStore, session: DebugSession) -> dict[str, Any]:
    """Return it; pictures that have expired are left out. Raises BrokerUnavailable."""
    names = {image.label: image.sha256 for image in session.images}
    order = _ORDER_GUIDED if GUIDED in names else _ORDER[session.submit.task]
    conditions = await _read(images, "debug", {label: names[label] for label in order if label in names})
    echoes = await _read(
        images, "inputs", {_ECHOES[field]: name for field, name in session.submit.image_hashes().items()}
    )
    extras = await _read(images, "debug", {key: names[label] for key, label in _extras(session) if label in names})
    photo = await images.head("inputs", session.submit.image)
    return {
        "conditional_images": list(conditions.values()),
        "conditional_labels": list(conditions),
        "input_image_size": f"{photo.width}x{photo.height}" if photo else None,
        "output_image_size": f"{session.result.width}x{session.result.height}",
        "lora_adapter": None,
        "loaded_adapters": [],
        **echoes,
        **extras,
        "session_name": session.name,
        "debug_path": f"/api/debug/sessions/{session.name}",
        "debug_note": "These pictures are kept for a day.",
    }


def _extras(session: DebugSession) -> list[tuple[str, str]]:
    painted = session.submit.task is Task.REMOVAL and session.submit.mask_tool == "brush"
    return [*([("mask_mae_dilated", "dilated_mask")] if painted else []), ("positioned_mask_R", "positioned_mask_R")]


async def _read(images: ImageStore, bucket: Bucket, names: dict[str, str]) -> dict[str, str]:
    texts = await asyncio.gather(*(_text(images, bucket, sha256) for sha256 in names.values()))
    return {key: text for key, text in zip(names, texts, strict=True) if text is not None}


async def _text(images: ImageStore, bucket: Bucket, sha256: str) -> str | None:
    try:
        return pybase64.b64encode(await images.get(bucket, sha256)).decode()
    except ImageNotFound:
        return None
