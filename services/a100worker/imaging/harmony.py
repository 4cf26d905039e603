"""Fits an inserted object into a scene: shifts its colours towards the surroundings, and composes it with its shadow.

Works in bands of rows: without bands, an object over nearly all of 64 megapixels took 4 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.imaging.contact_shadow import SHADOW_REACH, shadow_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from services.a100worker.imaging.cutout import Cutout, Floats, ScaledCutout
    from services.a100worker.imaging.placement import Box
    from shared.image_codec import Grey, Rgb

    Triple = NDArray[np.float64]

# Chosen by eye on six pairs of images: larger shares remove the object's own colours.
_LIGHT_SHARE, _CHROMA_SHARE = 0.25, 0.35
_MAX_SHIFT = (12.0, 30.0, 30.0)  # L, a, b
_FULL_TINT_FROM = 50.0  # L: darker colours reflect less of a tinted light, black none
_CONTRAST = (0.8, 1.2)
_RING = 0.25  # width, as a share of the box's long side
_SOLID = 0.9
_BAND_PIXELS = 500_000


@dataclass(frozen=True, slots=True)
class Tone:
    """A change of Lab colours: `(colour - mean) * ratio + mean + shift`, each (3,); the tint is weaker in the dark."""

    mean: Triple
    ratio: Triple
    shift: Triple

    def apply(self, colour: Floats) -> Floats:
        """Return colours (h, w, 3), 0..1, in this tone."""
        lab = cv2.cvtColor(colour, cv2.COLOR_RGB2Lab)
        moved = (lab - self.mean) * self.ratio + self.mean + self.shift
        moved[..., 1:] -= (1 - lab[..., :1] / _FULL_TINT_FROM).clip(0, 1) * self.shift[1:]
        moved = moved.astype(np.float32)
        return np.clip(cv2.cvtColor(moved, cv2.COLOR_Lab2RGB), 0, 1)


def match_tone(thing: Cutout, scene: Rgb, box: Box) -> Tone | None:
    """Return the tone that moves the object part of the way to its surroundings, in mean Lab colour and contrast.

    None if there is nothing to measure: no part of the object is solid, or the box has no surroundings.
    """
    inside = thing.alpha > _SOLID
    around = _Moments(_ring_colours(scene, box))
    if not inside.any() or not around.count:
        return None
    own = _Moments([np.asarray(cv2.cvtColor(thing.colour, cv2.COLOR_RGB2Lab), np.float32)[inside]])
    share = np.array([_LIGHT_SHARE, _CHROMA_SHARE, _CHROMA_SHARE])
    shift = np.clip((around.mean - own.mean) * share, -np.array(_MAX_SHIFT), _MAX_SHIFT)
    ratio = np.clip(around.spread / np.maximum(own.spread, 1e-3), *_CONTRAST)
    return Tone(own.mean, ratio, shift)


def compose(
    image: Rgb,
    region: Grey,
    thing: ScaledCutout,
    tone: Tone | None,
    box: Box,
    placed: Grey | None = None,
    *,
    band_pixels: int = _BAND_PIXELS,
) -> None:
    """Compose the object, of the box's size, and its shadow over the image, in place, and add both to the region.

    No byte of the image changes where the region stays 0. The object's own opacity is added to `placed`, if given.
    """
    window = box.expand(round(SHADOW_REACH * max(box.width, box.height)), image.shape)
    shadow = shadow_of(thing, box, window)
    for top, bottom in _bands(window, band_pixels):
        rows = slice(window.y + top, window.y + bottom), slice(window.x, window.x + window.width)
        alpha = np.zeros((bottom - top, window.width), np.float32)
        dark = np.clip(shadow.read(top, bottom), 0, 1)
        before = image[rows]
        mixed = before * (1 - dark)[..., None]
        first, last = max(rows[0].start, box.y), min(rows[0].stop, box.y + box.height)
        if first < last:
            part = thing.read(first - box.y, last - box.y)
            colour = part.colour if tone is None else tone.apply(part.colour)
            down = slice(first - rows[0].start, last - rows[0].start)
            inner = down, slice(box.x - window.x, box.x - window.x + box.width)
            alpha[inner] = part.alpha
            mixed[inner] = mixed[inner] * (1 - part.alpha)[..., None] + colour * part.alpha[..., None] * 255
        touched = np.rint(np.maximum(alpha, dark) * 255).astype(np.uint8)
        region[rows] = np.maximum(region[rows], touched)
        if placed is not None:
            placed[rows] = np.maximum(placed[rows], np.rint(alpha * 255).astype(np.uint8))
        after = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
        image[rows] = np.where((touched > 0)[..., None], after, before)


class _Moments:
    """Count, mean and standard deviation of colours that come in parts, each (n, 3)."""

    def __init__(self, parts: Iterable[Floats]) -> None:
        self.count, total, squares = 0, np.zeros(3), np.zeros(3)
        for part in parts:
            self.count += len(part)
            total += part.sum(axis=0, dtype=np.float64)
            squares += np.square(part, dtype=np.float64).sum(axis=0)
        self.mean = total / max(1, self.count)
        self.spread = np.sqrt(np.maximum(squares / max(1, self.count) - self.mean**2, 0))


def _ring_colours(scene: Rgb, box: Box) -> Iterator[Floats]:
    """Yield the Lab colours of the scene around the box, in arrays (n, 3)."""
    around = box.expand(max(4, round(_RING * max(box.width, box.height))), scene.shape)
    for top, bottom in _bands(around):
        rows = slice(around.y + top, around.y + bottom)
        outside = np.ones((bottom - top, around.width), np.bool_)
        first, last = max(rows.start, box.y), min(rows.stop, box.y + box.height)
        if first < last:
            outside[first - rows.start : last - rows.start, box.x - around.x : box.x - around.x + box.width] = False
        if outside.any():
            band = scene[rows, around.x : around.x + around.width].astype(np.float32) / 255
            yield np.asarray(cv2.cvtColor(band, cv2.COLOR_RGB2Lab), np.float32)[outside]


def _bands(window: Box, pixels: int = _BAND_PIXELS) -> Iterator[tuple[int, int]]:
    """Yield the first row of each band, and the row behind it."""
    rows = max(1, pixels // window.width)
    for top in range(0, window.height, rows):
        yield top, min(top + rows, window.height)
