"""Inserts an object: cuts it out of the reference and composes it into each marked region, with a shadow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.backend import Edit, grey_to_rgb
from services.a100worker.imaging import cutout, placement
from services.a100worker.imaging.harmony import compose, match_tone
from services.a100worker.imaging.reference import marks_something, object_mask
from services.a100worker.imaging.windows import leaves_no_context
from shared.errors import BadInput

if TYPE_CHECKING:
    from services.a100worker.backend import InsertionInputs, StepReporter
    from services.a100worker.imaging.placement import Box
    from shared.image_codec import Grey, Rgb

_LEAST_SIDE_PX = 4  # of a region: in a narrower one an object is too small to see
_NEARLY_ALL = ". The mask covers nearly the whole photo, so the object will too."


def insert(job: InsertionInputs, step: StepReporter) -> Edit:
    """Compose a copy of the object into each region of the mask. Raises BadInput or JobCancelled."""
    regions = _find_visible_regions(job.mask)
    total, warning = 2 + len(regions), _NEARLY_ALL if leaves_no_context(job.mask) else ""
    step(0, total, "Looking for the object")
    shape = object_mask(job.reference, job.reference_mask, job.fetch_reference_saliency)
    step(1, total, "Cutting out the object")
    thing = cutout.cut_whole(job.reference) if shape is None else cutout.cut_out(job.reference, shape)
    image, changed = job.image.copy(), np.zeros_like(job.mask)
    placed = np.zeros_like(job.mask) if job.debug else None
    for number, region in enumerate(regions, start=1):
        step(1 + number, total, f"Placing {number} of {len(regions)}{warning}", image if number > 1 else None)
        box = placement.fit(thing.alpha.shape[1], thing.alpha.shape[0], region)
        copy = thing.resize(box.width, box.height)
        compose(image, changed, copy, match_tone(copy.sample, job.image, box), box, placed)
    if cv2.norm(image, job.image, cv2.NORM_INF) == 0:
        raise BadInput(
            "The insertion changed nothing: the object looks like what is there. Choose another region or object."
        )
    step(total, total)
    if placed is None:
        return Edit(image, changed)
    labelled = marks_something(job.reference_mask)
    masked = None if shape is None or not labelled else np.where(shape[..., None] > 0, job.reference, np.uint8(0))
    return Edit(image, changed, _label_conditions(job.image, job.mask, job.reference, masked, placed))


def _find_visible_regions(mask: Grey) -> list[Box]:
    """Return the regions of the mask. Raises BadInput if all of them are too narrow to show an object."""
    regions = placement.find_regions(mask)
    widest = max(min(region.width, region.height) for region in regions)
    if widest < _LEAST_SIDE_PX:
        raise BadInput(f"The region is {widest} px wide, too narrow for an object. Mark at least {_LEAST_SIDE_PX} px.")
    return regions


def _label_conditions(
    image: Rgb, mask: Grey, reference: Rgb, masked_reference: Rgb | None, placed: Grey
) -> tuple[tuple[str, Rgb], ...]:
    """Label the images for the client's debug view, which expects other labels if there is a reference mask."""
    mask_rgb, positioned = grey_to_rgb(mask), grey_to_rgb(placed)
    if masked_reference is None:
        background = np.where(mask_rgb > placement.MASK_THRESHOLD, np.uint8(0), image)
        return ("ref_img", reference), ("mask", mask_rgb), ("masked_bg", background), ("positioned_mask", positioned)
    return (
        ("original", image),
        ("mask_A", mask_rgb),
        ("masked_R", masked_reference),
        ("reference_image", reference),
        ("positioned_mask_R", positioned),
        ("positioned_mask", positioned),
    )
