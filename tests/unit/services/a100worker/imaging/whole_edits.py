"""Edits of the classical engine on the whole image at each step: slow, simple, and the truth for edits in windows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging import cutout, holes
from services.a100worker.imaging.filling import fill_smoothly
from services.a100worker.imaging.grain import add_grain
from services.a100worker.imaging.harmony import compose, match_tone
from services.a100worker.imaging.placement import Box, fit
from services.a100worker.imaging.reference import object_mask

if TYPE_CHECKING:
    from services.a100worker.backend import InsertionInputs, RemovalInputs
    from services.a100worker.imaging.filling import Search
    from services.a100worker.imaging.holes import Hole
    from shared.image_codec import Grey, Rgb


def grow_whole(mask: Grey) -> Grey:
    """Return the mask, grown on the whole image."""
    away = cv2.distanceTransform(~mask, cv2.DIST_L2, 5)
    wide = np.where(away <= max(2, 0.012 * max(mask.shape)), np.uint8(255), np.uint8(0))
    return mask if wide.all() else wide


def feather_whole(hole: Grey, mask: Grey) -> Grey:
    """Return the weights, computed on the whole image."""
    depth = cv2.distanceTransform(hole, cv2.DIST_L2, 3)
    ramp = np.clip(depth * (255 / 3), 0, 255).astype(np.uint8)
    return np.where(mask > 128, np.uint8(255), ramp)


def blend_whole(base: Rgb, edited: Rgb, region: Grey) -> Rgb:
    """Return the blend of all pixels."""
    weight = region[..., None].astype(np.uint32)
    return ((base * (255 - weight) + edited * weight + 127) // 255).astype(np.uint8)


def fill_whole(image: Rgb, hole: Hole, search: Search, seed: int) -> Rgb:
    """Return a copy of the image with one hole filled."""
    near = hole.window.slices
    sharp, mask, avoid = np.ascontiguousarray(image[near]), hole.mask, hole.avoid
    scale = min(1.0, 1024 / max(image.shape), math.sqrt(0.15 * 1024**2 / np.count_nonzero(mask)))
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in mask.shape[::-1])
        small_mask, small_avoid = (_shrink(each, size) for each in (mask, avoid))
        small = np.asarray(cv2.resize(sharp, size, interpolation=cv2.INTER_AREA), np.uint8)
        fill = add_grain(sharp, _fill(small, small_mask, small_avoid, search), small_mask, small_avoid, seed)
    else:
        fill = _fill(sharp, mask, avoid, search)
    result = image.copy()
    result[near][mask > 0] = fill[mask > 0]
    return result


def _fill(image: Rgb, mask: Grey, avoid: Grey, search: Search) -> Rgb:
    patch = np.ones((7, 7), np.uint8)
    reach = cv2.dilate(cv2.bitwise_or(mask, avoid), patch, borderType=cv2.BORDER_CONSTANT, borderValue=255)
    return fill_smoothly(image, mask, avoid) if reach.all() else search(image, mask, avoid)


def _shrink(mask: Grey, size: tuple[int, ...]) -> Grey:
    return np.where(cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 0, np.uint8(255), np.uint8(0))


def remove_whole(job: RemovalInputs, search: Search, *, salient: bool = True) -> tuple[Rgb, Grey]:
    """Return the image without the marked region, and the region."""
    hole = grow_whole(np.where(job.mask > 128, np.uint8(255), np.uint8(0)))
    parts, specks = holes.split(hole, job.fetch_saliency() if salient else None)
    image = job.image
    for part in parts:
        image = fill_whole(image, part, search, job.seed)
    if specks.any():
        image = fill_smoothly(image, specks, np.zeros_like(hole))
    region = feather_whole(hole, job.mask)
    return blend_whole(job.image, image, region), region


def insert_whole(job: InsertionInputs) -> tuple[Rgb, Grey]:
    """Return the image with the object in each region, and the changed region."""
    marked = (job.mask > 128).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(marked, connectivity=4)
    shape = object_mask(job.reference, job.reference_mask, job.fetch_reference_saliency)
    thing = cutout.cut_whole(job.reference) if shape is None else cutout.cut_out(job.reference, shape)
    image, changed = job.image, np.zeros_like(job.mask)
    for part in (stats[label] for label in range(1, count) if stats[label, cv2.CC_STAT_AREA] >= 100):
        box = fit(thing.alpha.shape[1], thing.alpha.shape[0], Box(*(int(side) for side in part[:4])))
        copy = match_tone(thing.resize(box.width, box.height), job.image, box)
        before, touched = image, np.zeros_like(job.mask)
        image = before.copy()
        compose(image, touched, copy, box)
        image = np.where(touched[..., None] > 0, image, before)
        changed = np.maximum(changed, touched)
    return image, changed
