"""The intermediate images of an edit for the deployed client's debug panel, labelled, in base64 and in its order."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from services.gateway.core.debug_sessions import GUIDED
from shared.messages import Task

if TYPE_CHECKING:
    from collections.abc import Container

    from services.gateway.core.pieces import Pictures
    from shared.image_store import Bucket, StreamedStore
    from shared.messages import DebugSession

_INPUT_KEYS = {
    "image": "original_image",
    "mask": "mask_A",
    "reference": "reference_image",
    "reference_mask": "reference_mask_R",
}


async def debug_info(images: StreamedStore, session: DebugSession, pictures: Pictures) -> dict[str, Any]:
    """Return the panel's fields without the images that have expired. Raises BrokerUnavailable."""
    load = partial(_load, images, pictures)
    names = {image.label: image.sha256 for image in session.images}
    labels = _condition_labels(session.submit.task, names)
    conditions = await load("debug", {label: names[label] for label in labels if label in names})
    inputs = session.submit.image_hashes()
    echoes = await load("inputs", {_INPUT_KEYS[field]: sha256 for field, sha256 in inputs.items()})
    extras = await load("debug", {key: names[label] for key, label in _extra_labels(session).items() if label in names})
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
        "debug_note": "These images are kept for a day.",
    }


def _condition_labels(task: Task, stored: Container[str]) -> tuple[str, ...]:
    """Return the labels of the images that the engine was given, in the panel's order."""
    match task:
        case Task.WHITE_BALANCE:
            return "input", "canny"
        case Task.REMOVAL:
            return "original", "mask", "mae"
        case Task.INSERTION if GUIDED in stored:
            return "original", "mask_A", "masked_R", "reference_image", "positioned_mask_R"
        case Task.INSERTION:
            return "ref_img", "mask", "masked_bg"
    assert_never(task)


def _extra_labels(session: DebugSession) -> dict[str, str]:
    """Return the labels of further images, by the panel's field."""
    labels = {"positioned_mask_R": "positioned_mask_R"}
    match session.submit.task:
        case Task.REMOVAL:
            # Only painted masks are dilated, so only they have something to show.
            return {"mask_mae_dilated": "dilated_mask", **labels} if session.submit.mask_tool == "brush" else labels
        case Task.INSERTION | Task.WHITE_BALANCE:
            return labels
    assert_never(session.submit.task)


async def _load(images: StreamedStore, pictures: Pictures, bucket: Bucket, names: dict[str, str]) -> dict[str, str]:
    # A missing image must not hide the others: `head` finds only images with all their bytes.
    found = await asyncio.gather(*(images.head(bucket, sha256) for sha256 in names.values()))
    return {key: pictures.place(ref) for key, ref in zip(names, found, strict=True) if ref is not None}
