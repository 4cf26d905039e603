"""Removal: fill what the mask marks with its surroundings, hole by hole, and leave the rest as it is."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from services.a100worker.backend import Edit, finish, grey_as_rgb
from services.a100worker.imaging import holes
from services.a100worker.imaging.grain import with_grain

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.a100worker.backend import RemovalInputs, StepReporter
    from services.a100worker.backends.patchmatch.filler import Filler
    from services.a100worker.imaging.holes import Hole
    from shared.image_codec import Grey, Rgb

    Search: TypeAlias = Callable[[Rgb, Grey, Grey], Rgb]
    """Fills the hole (second) of a picture without the use of what the third argument marks."""

# Larger pictures and holes are filled at a smaller scale and get their grain back: 3 s instead of 8 s at 2048 px.
_WORK_SIDE_PX = 1024
_WORK_HOLE_PX = 0.15 * _WORK_SIDE_PX**2
_PATCH_PX = 7
_TELEA_RADIUS_PX = 3


def remove(job: RemovalInputs, step: StepReporter, filler: Filler | None) -> Edit:
    """Fill the marked holes; without a filler, smoothly. Raises BadInput, EngineFailed or JobCancelled."""
    hole = holes.grown(job.mask)
    step(0, 0, "Looking at the picture")
    parts, specks = holes.split(hole, job.fetch_saliency() if filler else None)
    search = partial(filler.fill, seed=job.seed, cancelled=step.cancelled) if filler else smooth
    total = 2 + len(parts) + bool(specks.any())
    picture = job.image
    for number, part in enumerate(parts, start=1):
        step(number, total, f"Filling {number} of {len(parts)}", picture if number > 1 else None)
        picture = filled(picture, part, search, job.seed)
    if specks.any():
        step(total - 2, total, "Filling specks", picture)
        picture = smooth(picture, specks, np.zeros_like(hole))
    step(total - 1, total, "Blending", picture)
    region = holes.feathered(hole, job.mask)
    result = finish(job.image, picture, region)
    step(total, total)
    return Edit(result, region, _conditions(job.image, job.mask, picture, hole))


def filled(picture: Rgb, part: Hole, search: Search, seed: int) -> Rgb:
    """Return the picture with one hole filled, by what lies in its window."""
    near = part.window.window
    sharp, hole, taboo = np.ascontiguousarray(picture[near]), part.mask, part.avoid
    scale = min(1.0, _WORK_SIDE_PX / max(picture.shape), math.sqrt(_WORK_HOLE_PX / np.count_nonzero(hole)))
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in hole.shape[::-1])
        small_hole, small_taboo = (_shrunk(mask, size) for mask in (hole, taboo))
        small = cv2.resize(sharp, size, interpolation=cv2.INTER_AREA)
        coarse = _searched(np.asarray(small, np.uint8), small_hole, small_taboo, search)
        fill = with_grain(sharp, coarse, small_hole, small_taboo, seed)
    else:
        fill = _searched(sharp, hole, taboo, search)
    result = picture.copy()
    result[near][hole > 0] = fill[hole > 0]
    return result


def _searched(picture: Rgb, hole: Grey, avoid: Grey, search: Search) -> Rgb:
    """Search where there is at least one whole patch to copy (PatchMatch leaves black otherwise), else smooth."""
    patch = np.ones((_PATCH_PX, _PATCH_PX), np.uint8)
    reach = cv2.dilate(cv2.bitwise_or(hole, avoid), patch, borderType=cv2.BORDER_CONSTANT, borderValue=255)
    return smooth(picture, hole, avoid) if reach.all() else search(picture, hole, avoid)


def smooth(picture: Rgb, hole: Grey, avoid: Grey) -> Rgb:
    """Draw the colours of the rim inwards (Telea 2004): instant, but without texture."""
    unknown = cv2.bitwise_or(hole, avoid)
    if unknown.all():
        unknown = hole
    return np.asarray(cv2.inpaint(picture, unknown, _TELEA_RADIUS_PX, cv2.INPAINT_TELEA), np.uint8)


def _shrunk(mask: Grey, size: tuple[int, ...]) -> Grey:
    """Shrink a mask so that no marked pixel is lost."""
    area = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    return np.where(area > 0, np.uint8(255), np.uint8(0))


def _conditions(image: Rgb, mask: Grey, fill: Rgb, hole: Grey) -> tuple[tuple[str, Rgb], ...]:
    """Label the pictures as the client knows them; "mae" is its name for the filled picture."""
    return ("original", image), ("mask", grey_as_rgb(mask)), ("mae", fill), ("dilated_mask", grey_as_rgb(hole))
