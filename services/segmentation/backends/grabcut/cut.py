"""Run GrabCut in single iterations, only the last one on all pixels, and clean up its mask.

Rother, Kolmogorov and Blake, "GrabCut: interactive foreground extraction using iterated graph cuts", 2004.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation.masks import binary, fill_holes, keep_parts, resize_nearest

if TYPE_CHECKING:
    from services.segmentation.backend import Checkpoint
    from services.segmentation.backends.grabcut.scene import Scene
    from services.segmentation.geometry import Frame
    from shared.image_codec import Grey, Rgb

OBJECT = (cv2.GC_FGD, cv2.GC_PR_FGD)
PROBABLE = (cv2.GC_PR_FGD, cv2.GC_PR_BGD)
_ITERATIONS = 3
_STEP = 2  # all iterations but the last use every second pixel of every second row
_LEAST_SIDE_PX, _LEAST_PIXELS = 100, 100  # of the thinned frame: its long side; pixels of object and background
_SMOOTHING_PX = 5
_SEED = 1
_GRAIN = 3
_NO_RECT = (0, 0, 0, 0)  # unused: the labels are given
_MODEL_SIZE = (1, 65)  # five Gaussians of 13 numbers
_RULES = 2  # raise it with each change of the masks of this module: replicas of two releases share the cached cuts
_DIGEST_BYTES = 16


def cut(scene: Scene, frame: Frame, pixels: Rgb, labels: Grey) -> Grey:
    """Return the mask of `run_grabcut` for the pixels of a frame; later clicks find it in the cache."""
    digest = hashlib.blake2b(labels.tobytes(), digest_size=_DIGEST_BYTES).hexdigest()
    x0, y0, x1, y1 = frame.window
    name = f"grabcut{_RULES}-{x0}-{y0}-{x1}-{y1}-{frame.width}-{frame.height}-{digest}"
    return scene.cached(name, lambda: run_grabcut(pixels, labels, scene.checkpoint))


def run_grabcut(pixels: Rgb, labels: Grey, checkpoint: Checkpoint) -> Grey:
    """Return the object's hard mask, (h, w), 0 or 255. `labels` are cv2.GC_* and are not changed.

    Keep the parts with a sure pixel, or the large parts if no pixel is sure. Deterministic.
    """
    is_object = np.isin(labels, OBJECT)
    if is_object.all() or not is_object.any() or not np.isin(labels, PROBABLE).any():
        return binary(is_object)
    cut = _iterate(_add_grain(pixels), labels, checkpoint)
    smooth = np.asarray(cv2.medianBlur(binary(np.isin(cut, OBJECT)), _SMOOTHING_PX), np.uint8)
    return fill_holes(keep_parts(smooth, binary(labels == cv2.GC_FGD)), binary(labels == cv2.GC_BGD))


def _iterate(pixels: Rgb, labels: Grey, checkpoint: Checkpoint) -> Grey:
    """Return the labels after all iterations. All but the last use every fourth pixel.

    These move the outline over long distances and learn the colours, which needs no full resolution. The last iteration
    puts the outline on the edge. The masks of photos hardly change, and the time halves.
    """
    step = _STEP if _is_thinnable(labels[::_STEP, ::_STEP]) else 1
    some, cut = (np.array(whole[::step, ::step], order="C") for whole in (pixels, labels))
    models = np.zeros(_MODEL_SIZE), np.zeros(_MODEL_SIZE)
    cv2.setRNGSeed(_SEED)  # per thread in OpenCV, so parallel requests are independent
    for done in range(_ITERATIONS - 1):
        checkpoint()
        cv2.grabCut(some, cut, _NO_RECT, *models, 1, cv2.GC_EVAL if done else cv2.GC_INIT_WITH_MASK)
    checkpoint()
    cut = _enlarge(cut, labels)
    cv2.grabCut(pixels, cut, _NO_RECT, *models, 1, cv2.GC_EVAL)
    return cut


def _is_thinnable(thin: Grey) -> bool:
    """Return whether these labels are enough to learn both colour models. Small frames are quick without thinning."""
    objects = int(np.count_nonzero(np.isin(thin, OBJECT)))
    return min(objects, thin.size - objects) >= _LEAST_PIXELS and max(thin.shape) >= _LEAST_SIDE_PX


def _enlarge(cut: Grey, labels: Grey) -> Grey:
    """Return the labels, with the unsure ones taken from a cut of fewer pixels."""
    height, width = labels.shape
    decided = np.isin(resize_nearest(cut, width, height), OBJECT)
    unsure = np.where(decided, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_PR_BGD))
    return np.where(np.isin(labels, PROBABLE), unsure, labels)


def _add_grain(pixels: Rgb) -> Rgb:
    """Stretch the contrast to the full range and add noise of up to 3 levels.

    In uniform areas the maximum flow has many equal paths, which makes it slow: a drawn chessboard took 210 s, with
    noise 1 s. The masks of photos hardly change.
    """
    grain = np.random.default_rng(_SEED).integers(-_GRAIN, _GRAIN + 1, pixels.shape, np.int16)
    stretched = np.asarray(cv2.normalize(pixels, np.empty_like(pixels), 0, 255, cv2.NORM_MINMAX), np.int16)
    return np.asarray((stretched + grain).clip(0, 255), np.uint8)
