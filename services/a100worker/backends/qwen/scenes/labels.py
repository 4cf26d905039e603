"""The labelled images of an edit for debugging: the deployed client's own labels, and the model's input images.

`services/gateway/api/debug_info.py` has the order in which the client shows its labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.backend import grey_to_rgb
from services.a100worker.backends.qwen.scenes.scene import draw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.a100worker.backend import InsertionInputs, RemovalInputs
    from services.a100worker.backends.qwen.recipes.recipe import View
    from services.a100worker.backends.qwen.scenes.balance import BalanceScene
    from services.a100worker.backends.qwen.scenes.insertion import InsertionScene
    from services.a100worker.backends.qwen.scenes.removal import RemovalScene
    from services.a100worker.backends.qwen.scenes.scene import Scene
    from services.a100worker.imaging.windows import Window
    from shared.image_codec import Grey, Rgb

    Labelled = tuple[tuple[str, Rgb], ...]


def of_removal(job: RemovalInputs, windows: Iterable[tuple[Window, RemovalScene]]) -> Labelled:
    """Return the photo, the mask, the photo with its holes filled ("mae") and the holes."""
    filled, hole = job.image.copy(), np.zeros_like(job.mask)
    for window, scene in windows:
        part = window.box.slices
        inside = scene.frame.leave(scene.hole)
        filled[part] = np.where(inside[..., None] > 0, scene.frame.leave(scene.filling), filled[part])
        hole[part] = np.maximum(hole[part], inside)
    return (
        ("original", job.image),
        ("mask", grey_to_rgb(job.mask)),
        ("mae", filled),
        ("dilated_mask", grey_to_rgb(hole)),
    )


def of_insertion(
    job: InsertionInputs, windows: Iterable[tuple[Window, InsertionScene]], outline: Grey | None
) -> Labelled:
    """Return the images of an insertion; the client expects other labels if there is a mask of the reference."""
    background = job.image.copy()
    placed, expanded = np.zeros_like(job.mask), np.zeros_like(job.mask)
    for window, scene in windows:
        part, frame = window.box.slices, scene.frame
        background[part] = frame.leave(scene.hollow)
        placed[part] = np.maximum(placed[part], frame.leave(scene.placed))
        expanded[part] = np.maximum(expanded[part], frame.leave(scene.expanded))
    place, where = grey_to_rgb(placed), grey_to_rgb(expanded)
    if outline is None:
        return (("ref_img", job.reference), ("mask", where), ("masked_bg", background), ("positioned_mask", place))
    return (
        ("original", job.image),
        ("mask_A", grey_to_rgb(job.mask)),
        ("masked_R", np.where(outline[..., None] > 0, job.reference, np.uint8(0))),
        ("reference_image", job.reference),
        ("positioned_mask_R", where),
        ("positioned_mask", place),
    )


def of_balance(image: Rgb, scene: BalanceScene) -> Labelled:
    """Return the photo and its edges."""
    return ("input", image), ("canny", scene.edges)


def of_shown(scenes: Iterable[Scene], views: Iterable[View]) -> Labelled:
    """Return the model's input images, labelled by window and place in the prompt."""
    wanted = tuple(views)
    return tuple(
        (f"window_{number}_picture_{place}", draw(scene, view))
        for number, scene in enumerate(scenes, start=1)
        for place, view in enumerate(wanted, start=1)
    )
