"""Removes the marked region: fills hole by hole from the surroundings and leaves the rest unchanged."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.backend import Edit, blend, grey_to_rgb
from services.a100worker.imaging import holes
from services.a100worker.imaging.filling import fill_hole, fill_smoothly

if TYPE_CHECKING:
    from services.a100worker.backend import RemovalInputs, StepReporter
    from services.a100worker.backends.patchmatch.filler import Filler
    from shared.image_codec import Grey, Rgb


def remove(job: RemovalInputs, step: StepReporter, filler: Filler | None) -> Edit:
    """Fill the marked holes; without a filler, smoothly. Raises BadInput, EngineFailed or JobCancelled."""
    hole = holes.grow(job.mask)
    step(0, 0, "Looking at the image")
    parts, specks = holes.split(hole, job.fetch_saliency() if filler else None)
    search = partial(filler.fill, seed=job.seed, cancel_flag=step.cancel_flag) if filler else fill_smoothly
    total = 2 + len(parts) + bool(specks.any())
    image = job.image
    for number, part in enumerate(parts, start=1):
        step(number, total, f"Filling {number} of {len(parts)}", image if number > 1 else None)
        image = fill_hole(image, part, search, job.seed)
    if specks.any():
        step(total - 2, total, "Filling specks", image)
        image = fill_smoothly(image, specks, np.zeros_like(hole))
    step(total - 1, total, "Blending", image)
    region = holes.feather(hole, job.mask)
    result = blend(job.image, image, region)
    step(total, total)
    return Edit(result, region, _label_conditions(job.image, job.mask, image, hole) if job.debug else ())


def _label_conditions(image: Rgb, mask: Grey, fill: Rgb, hole: Grey) -> tuple[tuple[str, Rgb], ...]:
    """Label the images for the client's debug view, which shows the filled image as "mae"."""
    return ("original", image), ("mask", grey_to_rgb(mask)), ("mae", fill), ("dilated_mask", grey_to_rgb(hole))
