"""Edits of the classical engine on the whole image at each step: slow, simple, and the truth for edits in windows."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging import cutout, holes
from services.a100worker.imaging.contact_shadow import contact_shadow
from services.a100worker.imaging.filling import fill_smoothly
from services.a100worker.imaging.grain import add_grain
from services.a100worker.imaging.placement import Box, fit
from services.a100worker.imaging.reference import object_mask
from services.a100worker.imaging.structure.search import fill_with_structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    parts, specks = holes.split(hole, job.fetch_saliency() if salient and not holes.is_small(hole) else None)
    image = job.image
    for part in parts:
        image = fill_whole(image, part, partial(fill_with_structure, search=search), job.seed)
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
        image, touched = compose_whole(image, job.image, thing, box)
        changed = np.maximum(changed, touched)
    return image, changed


def compose_whole(image: Rgb, scene: Rgb, thing: cutout.Cutout, box: Box) -> tuple[Rgb, Grey]:
    """Return the image with the object, in the tone of the scene and with its shadow, and the changed region."""
    size, alpha = (box.width, box.height), np.zeros(image.shape[:2], np.float32)
    how = cv2.INTER_AREA if box.width < thing.alpha.shape[1] else cv2.INTER_CUBIC
    opacity = np.clip(np.asarray(cv2.resize(thing.alpha, size, interpolation=how), np.float32), 0, 1)
    weighted = np.asarray(cv2.resize(thing.colour * thing.alpha[..., None], size, interpolation=how))
    colour = np.clip(weighted / np.maximum(opacity, 1e-4)[..., None], 0, 1).astype(np.float32)
    alpha[box.slices] = opacity
    window = box.expand(round(0.21 * max(size)), image.shape)
    local = Box(box.x - window.x, box.y - window.y, box.width, box.height)
    dark = np.zeros_like(alpha)
    dark[window.slices] = contact_shadow(alpha[window.slices], local)
    mixed = image * (1 - dark)[..., None] * (1 - alpha)[..., None]
    mixed[box.slices] += tone_whole(colour, opacity, scene, box) * opacity[..., None] * 255
    touched = np.rint(np.maximum(alpha, dark) * 255).astype(np.uint8)
    return np.where(touched[..., None] > 0, np.clip(np.rint(mixed), 0, 255).astype(np.uint8), image), touched


def tone_whole(colour: NDArray[np.float32], alpha: NDArray[np.float32], scene: Rgb, box: Box) -> NDArray[np.float32]:
    """Return the colours, moved part of the way to those round the box."""
    around = box.expand(max(4, round(0.25 * max(box.width, box.height))), scene.shape)
    ring = np.ones(scene.shape[:2], np.bool_)
    ring[box.slices] = False
    near = cv2.cvtColor(scene[around.slices].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[ring[around.slices]]
    lab = cv2.cvtColor(colour, cv2.COLOR_RGB2Lab).astype(np.float64)
    if not len(near) or not (alpha > 0.9).any():
        return colour
    solid = lab[alpha > 0.9]
    shift = np.clip((near.mean(axis=0, dtype=np.float64) - solid.mean(axis=0)) * [0.25, 0.35, 0.35],
                    [-12, -30, -30], [12, 30, 30])  # fmt: skip
    ratio = np.clip(near.std(axis=0, dtype=np.float64) / np.maximum(solid.std(axis=0), 1e-3), 0.8, 1.2)
    moved = (lab - solid.mean(axis=0)) * ratio + solid.mean(axis=0) + shift
    darkness = (1 - lab.astype(np.float32)[..., :1] / 50).clip(0, 1)
    moved[..., 1:] -= darkness * shift[1:]
    moved = moved.astype(np.float32)
    return np.asarray(np.clip(cv2.cvtColor(moved, cv2.COLOR_Lab2RGB), 0, 1), np.float32)
