"""Fits an inserted object into a scene: shifts its colours towards the surroundings and casts a soft shadow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.cutout import Cutout
from services.a100worker.imaging.placement import Box

if TYPE_CHECKING:
    from services.a100worker.imaging.cutout import Floats
    from shared.image_codec import Grey, Rgb

# By eye, on six pairs: more takes the object's own colours away.
_LIGHT_SHARE, _CHROMA_SHARE = 0.25, 0.35
_MAX_SHIFT = (12.0, 30.0, 30.0)  # L, a, b
_CONTRAST = (0.8, 1.2)
_RING = 0.25  # of the box
_SOLID = 0.9
_FOOT = 0.2  # of the object's height: the part near the ground
_SHADOW_REACH = 0.21  # of the long side: three times the widest blur
_SHADOWS = ((0.02, 0.008, 0.42), (0.07, 0.03, 0.22))  # blur across, blur and drop down (of the long side), strength


def match_tone(cutout: Cutout, scene: Rgb, box: Box) -> Cutout:
    """Shift the object's mean Lab colour and contrast part of the way to those of the surroundings of the box."""
    inside = cutout.alpha > _SOLID
    ring = _ring_colours(scene, box)
    if not inside.any() or not len(ring):
        return cutout
    lab = cv2.cvtColor(cutout.colour, cv2.COLOR_RGB2Lab)
    mean, spread = lab[inside].mean(axis=0), lab[inside].std(axis=0)
    share = np.array([_LIGHT_SHARE, _CHROMA_SHARE, _CHROMA_SHARE], np.float32)
    shift = np.clip((ring.mean(axis=0) - mean) * share, -np.array(_MAX_SHIFT), _MAX_SHIFT)
    ratio = np.clip(ring.std(axis=0) / np.maximum(spread, 1e-3), *_CONTRAST)
    lab = ((lab - mean) * ratio + mean + shift).astype(np.float32)
    return Cutout(np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), 0, 1), cutout.alpha)


def compose(image: Rgb, region: Grey, cutout: Cutout, box: Box) -> None:
    """Compose the object, of the box's size, and its shadow over the image, in place, and add both to the region.

    Where the region stays 0 no byte of the image changes.
    """
    window = box.expand(round(_SHADOW_REACH * max(box.width, box.height)), image.shape)
    alpha = np.zeros((window.height, window.width), np.float32)
    inner = Box(box.x - window.x, box.y - window.y, box.width, box.height)
    alpha[inner.slices] = cutout.alpha
    shadow = contact_shadow(alpha, inner)
    before = image[window.slices]
    mixed = before * (1 - shadow)[..., None] * (1 - alpha)[..., None]
    mixed[inner.slices] += cutout.colour * cutout.alpha[..., None] * 255
    touched = np.rint(np.maximum(alpha, shadow) * 255).astype(np.uint8)
    region[window.slices] = np.maximum(region[window.slices], touched)
    after = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    image[window.slices] = np.where((touched > 0)[..., None], after, before)


def contact_shadow(alpha: Floats, box: Box) -> Floats:
    """Return the share of light (0..1) that the ground loses to a near and a far shadow of the object in the box."""
    foot = alpha.copy()
    foot[: box.y + box.height - max(1, round(_FOOT * box.height))] = 0
    long_side = max(box.width, box.height)
    light = np.ones_like(foot)
    for across, down, strength in _SHADOWS:
        drop = np.array([[1, 0, 0], [0, 1, down * long_side]], np.float32)
        dropped = cv2.warpAffine(foot, drop, foot.shape[::-1])
        wide, high = max(0.5, across * long_side), max(0.5, down * long_side)
        light *= 1 - strength * np.asarray(cv2.GaussianBlur(dropped, (0, 0), sigmaX=wide, sigmaY=high), np.float32)
    return 1 - light


def _ring_colours(scene: Rgb, box: Box) -> Floats:
    """Return the Lab colours of the scene around the box, as an array (n, 3)."""
    around = box.expand(max(4, round(_RING * max(box.width, box.height))), scene.shape)
    outside = np.ones((around.height, around.width), np.bool_)
    outside[box.y - around.y : box.y - around.y + box.height, box.x - around.x : box.x - around.x + box.width] = False
    lab = cv2.cvtColor(scene[around.slices].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    return np.asarray(lab[outside])
