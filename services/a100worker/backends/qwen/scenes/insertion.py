"""The images of an insertion: the place in the scene, marked or blackened out, and the object."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.backend import grey_to_rgb
from services.a100worker.backends.qwen.frames import Frame
from services.a100worker.backends.qwen.recipes.recipe import View
from services.a100worker.backends.qwen.scenes import scene
from services.a100worker.imaging import placement
from services.a100worker.imaging.contact_shadow import SHADOW_REACH, contact_shadow
from services.a100worker.imaging.pasting import fade_at_edges, feather_px
from services.a100worker.imaging.placement import Box
from services.a100worker.imaging.reference import align_mask, marks_something
from services.a100worker.imaging.windows import LEAST_PX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.a100worker.backend import InsertionInputs
    from services.a100worker.imaging.cutout import Floats
    from services.a100worker.imaging.windows import Window
    from shared.image_codec import Grey, Rgb

_VISIBLE_SHADOW = 0.02
_RIM_PX = 7
_OBJECT_SHARE = 0.85  # largest share of the white image's sides that the object fills


def outline_of(job: InsertionInputs) -> Grey | None:
    """Return the object in the reference as 0 and 255; None if the request has no mask of it."""
    if job.reference_mask is None or not marks_something(job.reference_mask):
        return None
    return align_mask(job.reference, job.reference_mask)


class InsertionScene:
    """One window of an insertion. `image` is the photo with the windows before this one already painted."""

    def __init__(self, job: InsertionInputs, image: Rgb, window: Window, area: int, outline: Grey | None) -> None:
        part = window.box.slices
        self._reference, self._outline = job.reference, outline
        self.frame = Frame.of(window.box.width, window.box.height, area, LEAST_PX)
        self.photo = self.frame.enter(image[part])
        self.mask = self.frame.enter_mask(job.mask[part])
        regions = [_on_canvas(region, window.box, self.frame) for region in window.regions]
        self.placed = self.mask if outline is None else _place(outline, regions, self.mask.shape)
        self._shadow = _shadow(self.placed, regions)
        self.expanded = _expand(self.placed, self._shadow)
        sigma = feather_px(self.frame.scale)
        soft = np.asarray(cv2.GaussianBlur(self.frame.leave(self.expanded), (0, 0), sigma), np.uint8)
        self.region: Grey | None = fade_at_edges(soft, window.box, image.shape)

    @property
    def views(self) -> Mapping[View, Callable[[], Rgb]]:
        """See Scene."""
        return {
            View.PHOTO: lambda: self.photo,
            View.MARKED: lambda: scene.tint(self.photo, self.placed),
            View.OBJECT: self._draw_object,
            View.REFERENCE: self._draw_reference,
            View.MASK: lambda: grey_to_rgb(self.expanded),
            View.HOLLOW: lambda: self.hollow,
        }

    @cached_property
    def hollow(self) -> Rgb:
        """The scene with a faint shadow, and a black hole at the place of the object."""
        shaded = np.rint(self.photo * (1 - self._shadow[..., None])).astype(np.uint8)
        return scene.blacken(shaded, self.placed)

    def _draw_reference(self) -> Rgb:
        return np.asarray(cv2.resize(self._reference, self.frame.outer, interpolation=cv2.INTER_LANCZOS4), np.uint8)

    def _draw_object(self) -> Rgb:
        """Return the object on white, or the whole reference if there is no mask of the object."""
        reference = self._reference
        alpha = np.full(reference.shape[:2], 255, np.uint8) if self._outline is None else self._outline
        box = placement.bounding_box(alpha) or Box(0, 0, reference.shape[1], reference.shape[0])
        width, height = self.frame.outer
        share = 1.0 if self._outline is None else _OBJECT_SHARE
        scale = share * min(width / box.width, height / box.height)
        size = max(1, int(box.width * scale)), max(1, int(box.height * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        colour = cv2.resize(reference[box.slices], size, interpolation=how)
        weight = cv2.resize(alpha[box.slices], size, interpolation=how)[..., None].astype(np.uint32)
        white = np.full((height, width, 3), 255, np.uint8)
        at = Box((width - size[0]) // 2, (height - size[1]) // 2, *size).slices
        white[at] = ((colour * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)
        return white


def _on_canvas(region: Box, window: Box, frame: Frame) -> Box:
    across, down = frame.inner[0] / frame.width, frame.inner[1] / frame.height
    x, y = region.x - window.x, region.y - window.y
    left, top = int(x * across), int(y * down)
    right = max(left + 1, round((x + region.width) * across))
    bottom = max(top + 1, round((y + region.height) * down))
    return Box(left, top, right - left, bottom - top)


def _place(outline: Grey, regions: list[Box], shape: tuple[int, ...]) -> Grey:
    """Fit the outline's box into each region and keep its proportions."""
    thing = placement.bounding_box(outline) or Box(0, 0, outline.shape[1], outline.shape[0])
    placed = np.zeros(shape, np.uint8)
    for region in regions:
        box = placement.fit(thing.width, thing.height, region)
        size = (box.width, box.height)
        scaled = np.asarray(cv2.resize(outline[thing.slices], size, interpolation=cv2.INTER_AREA), np.uint8)
        placed[box.slices] = np.maximum(placed[box.slices], scaled)
    return placed


def _shadow(placed: Grey, regions: list[Box]) -> Floats:
    """Return the share of its light that the ground loses near each region, except under the object."""
    shadow = np.zeros(placed.shape, np.float32)
    for region in regions:
        near = region.expand(round(SHADOW_REACH * max(region.width, region.height)), placed.shape)
        alpha = placed[near.slices].astype(np.float32) / np.float32(255)
        box = Box(region.x - near.x, region.y - near.y, region.width, region.height)
        shadow[near.slices] = np.maximum(shadow[near.slices], contact_shadow(alpha, box))
    shadow[placed > 0] = 0
    return shadow


def _expand(placed: Grey, shadow: Floats) -> Grey:
    """Return the pixels that the model may paint: the object, its shadow, and a rim."""
    wide = np.where(shadow > _VISIBLE_SHADOW, np.uint8(255), placed)
    return np.asarray(cv2.dilate(wide, scene.disc(_RIM_PX // 2)), np.uint8)
