"""Removes the marked region: fills each hole from its surroundings and leaves the rest unchanged.

The image is copied once; all further work is done in windows, because most of a large photo lies outside the holes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import cv2

from services.a100worker.backend import Edit, blend_into, grey_to_rgb
from services.a100worker.imaging import holes
from services.a100worker.imaging.filling import fill_hole, fill_smoothly, fill_specks
from services.a100worker.imaging.structure.search import fill_with_structure
from services.a100worker.imaging.windows import leaves_no_context

if TYPE_CHECKING:
    from services.a100worker.backend import RemovalInputs, StepReporter
    from services.a100worker.backends.lama.laptop import LaptopLama
    from services.a100worker.backends.patchmatch.filler import Filler
    from shared.image_codec import Grey, Rgb

_ANOTHER_TRY = 0.5  # factor of the working scale: each patch covers more of the image, so other places are copied
_NEARLY_ALL = ". The mask covers nearly the whole photo, so there is little to copy."


def remove(job: RemovalInputs, step: StepReporter, filler: Filler | None, lama: LaptopLama | None = None) -> Edit:
    """Fill the marked holes: with LaMa where it suits, else with the filler, or smoothly if there is no filler.

    The variant 1 carries no lines through a hole. It fills each hole with the other method, or without LaMa at half the
    working scale. Raises BadInput, EngineFailed or JobCancelled.
    """
    hole = holes.grow(job.mask, by=0.0 if job.exact_mask else holes.RIM)
    step(0, 0, "Looking at the image")
    looks = filler is not None and not holes.is_small(hole)  # for a spot, the map would take half of the time
    parts, specks = holes.split(hole, job.fetch_saliency() if looks else None)
    fill = partial(filler.fill, seed=job.seed, cancel_flag=step.cancel_flag) if filler else fill_smoothly
    search = fill if job.variant else partial(fill_with_structure, search=fill)
    has_specks = cv2.countNonZero(specks) > 0
    shrink = _ANOTHER_TRY if job.variant and lama is None else 1.0
    total, warning = 2 + len(parts) + has_specks, _NEARLY_ALL if leaves_no_context(job.mask) else ""
    image, by_network = job.image.copy(), False
    for number, part in enumerate(parts, start=1):
        step(number, total, f"Filling {number} of {len(parts)}{warning}", image if number > 1 else None)
        if lama is not None and lama.suits(job.image, part) != bool(job.variant):
            lama.fill(image, part, hole, job.seed, step.cancel_flag)
            by_network = True
        else:
            fill_hole(image, part, search, job.seed, shrink)
    if has_specks:
        step(total - 2, total, "Filling specks", image)
        fill_specks(image, specks)
    step(total - 1, total, "Blending", image)
    region = holes.feather(hole, job.mask)
    conditions = _label_conditions(job.image, job.mask, image.copy(), hole) if job.debug else ()
    blend_into(image, job.image, image, region)
    step(total, total)
    return Edit(image, region, conditions, by_network=by_network)


def _label_conditions(image: Rgb, mask: Grey, fill: Rgb, hole: Grey) -> tuple[tuple[str, Rgb], ...]:
    """Label the images for the client's debug view, which shows the filled image as "mae"."""
    return ("original", image), ("mask", grey_to_rgb(mask)), ("mae", fill), ("dilated_mask", grey_to_rgb(hole))
