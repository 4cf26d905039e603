"""The pictures that each task is conditioned on, in the order in which the adapters were trained to see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.backend import grey_to_rgb
from services.a100worker.imaging import holes, placement
from services.a100worker.imaging.harmony import contact_shadow
from services.a100worker.imaging.placement import Box
from services.a100worker.imaging.reference import align_mask, marks_something

if TYPE_CHECKING:
    from services.a100worker.backend import InsertionInputs, RemovalInputs, WhiteBalanceInputs
    from services.a100worker.backends.lama.fill import Fill
    from services.a100worker.backends.qwen.frames import Frame
    from services.a100worker.imaging.cutout import Floats
    from shared.image_codec import Grey, Rgb

    Labelled = tuple[tuple[str, Rgb], ...]

_BRUSH_PX = 35  # a hand-drawn mask is filled so far beyond its rim
_CANNY_SIGMA = 0.33
_SHADOW_REACH = 0.21  # of the long side
_VISIBLE_SHADOW = 0.02
_RIM_PX = 7
_FEATHER_PX = 2.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the model looks at, what may change, and the same for whoever debugs it under the client's labels."""

    pictures: tuple[Rgb, ...]  # of the frame's size
    region: Grey | None  # of the upload's size; None: everything may change
    labelled: Labelled


def removal(job: RemovalInputs, frame: Frame, fill: Fill) -> Conditions:
    """Masked background, mask, fill. Raises BadInput, JobCancelled."""
    grown = holes.grow(job.mask)
    picture, mask = frame.enter(job.image), frame.enter_mask(job.mask)
    wide = cv2.dilate(mask, _disc(_BRUSH_PX)) if job.mask_tool == "brush" else holes.grow(mask)
    hole = mask if wide.all() else np.asarray(wide, np.uint8)
    saliency = job.fetch_saliency()
    filled = fill(picture, hole, None if saliency is None else frame.enter_grey(saliency))
    shown = grey_to_rgb(mask)
    return Conditions(
        (_without(picture, mask), shown, filled),
        holes.feather(grown, job.mask),
        (("original", job.image), ("mask", shown), ("mae", filled), ("dilated_mask", grey_to_rgb(hole))),
    )


def insertion(job: InsertionInputs, frame: Frame) -> Conditions:
    """Reference, the place to fill (the object's outline where a mask of the reference gives it), masked background.

    Raises BadInput.
    """
    regions = [_framed(box, frame) for box in placement.find_regions(job.mask)]
    picture, mask = frame.enter(job.image), frame.enter_mask(job.mask)
    reference = _stretched(job.reference, frame.outer)
    outline = None
    if job.reference_mask is not None and marks_something(job.reference_mask):
        outline = align_mask(job.reference, job.reference_mask)
    placed = mask if outline is None else _placed(outline, regions, mask.shape)
    shadow = _shadow(placed, regions)
    shaded = np.rint(picture * (1 - shadow[..., None])).astype(np.uint8)
    expanded = _expanded(placed, shadow)
    background = _without(shaded, placed)
    region = np.asarray(cv2.GaussianBlur(frame.leave(expanded), (0, 0), _FEATHER_PX), np.uint8)
    pictures = (reference, grey_to_rgb(expanded), background)
    if outline is None:
        shown = (("ref_img", job.reference), ("mask", grey_to_rgb(expanded)), ("masked_bg", background))
        return Conditions(pictures, region, (*shown, ("positioned_mask", grey_to_rgb(placed))))
    return Conditions(
        pictures,
        region,
        (
            ("original", job.image),
            ("mask_A", grey_to_rgb(mask)),
            ("masked_R", np.where(outline[..., None] > 0, job.reference, np.uint8(0))),
            ("reference_image", job.reference),
            ("positioned_mask_R", grey_to_rgb(expanded)),
            ("positioned_mask", grey_to_rgb(placed)),
        ),
    )


def white_balance(job: WhiteBalanceInputs, frame: Frame) -> Conditions:
    """The picture and its edges, which hold the shapes while the colours change."""
    picture = frame.enter(job.image)
    edges = grey_to_rgb(canny(picture))
    return Conditions((picture, edges), None, (("input", job.image), ("canny", edges)))


def canny(picture: Rgb) -> Grey:
    """White edges on black, with thresholds a third below and above the median of the smoothed picture."""
    grey = cv2.bilateralFilter(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 9, 75, 75)
    median = float(np.median(grey))
    low, high = max(0, int((1 - _CANNY_SIGMA) * median)), min(255, int((1 + _CANNY_SIGMA) * median))
    return np.asarray(cv2.Canny(grey, low, high), np.uint8)


def _without(picture: Rgb, mask: Grey) -> Rgb:
    """Black out what the mask covers, as far as it covers it."""
    kept = 255 - mask.astype(np.uint16)[..., None]
    return np.asarray((picture * kept + 127) // 255, np.uint8)


def _stretched(picture: Rgb, size: tuple[int, int]) -> Rgb:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LANCZOS4), np.uint8)


def _framed(box: Box, frame: Frame) -> Box:
    across, down = frame.inner[0] / frame.width, frame.inner[1] / frame.height
    left, top = int(box.x * across), int(box.y * down)
    right = max(left + 1, round((box.x + box.width) * across))
    bottom = max(top + 1, round((box.y + box.height) * down))
    return Box(left, top, right - left, bottom - top)


def _placed(outline: Grey, regions: list[Box], shape: tuple[int, ...]) -> Grey:
    """Set the outline's box into each region at its own proportions."""
    thing = placement.bounding_box(outline) or Box(0, 0, outline.shape[1], outline.shape[0])
    placed = np.zeros(shape, np.uint8)
    for region in regions:
        box = placement.fit(thing.width, thing.height, region)
        size = (box.width, box.height)
        scaled = np.asarray(cv2.resize(outline[thing.slices], size, interpolation=cv2.INTER_AREA), np.uint8)
        placed[box.slices] = np.maximum(placed[box.slices], scaled)
    return placed


def _shadow(placed: Grey, regions: list[Box]) -> Floats:
    """Return the share of its light that the ground loses near each region, outside what stands there."""
    shadow = np.zeros(placed.shape, np.float32)
    for region in regions:
        window = region.expand(round(_SHADOW_REACH * max(region.width, region.height)), placed.shape)
        alpha = placed[window.slices].astype(np.float32) / np.float32(255)
        box = Box(region.x - window.x, region.y - window.y, region.width, region.height)
        shadow[window.slices] = np.maximum(shadow[window.slices], contact_shadow(alpha, box))
    shadow[placed > 0] = 0
    return shadow


def _expanded(placed: Grey, shadow: Floats) -> Grey:
    """Return the object or its shadow, and a rim: what the model may paint."""
    wide = np.where(shadow > _VISIBLE_SHADOW, np.uint8(255), placed)
    return np.asarray(cv2.dilate(wide, _disc(_RIM_PX // 2)), np.uint8)


def _disc(radius: int) -> Grey:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2), np.uint8)
