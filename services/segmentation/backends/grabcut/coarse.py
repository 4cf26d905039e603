"""Drafts from the drawing alone, for objects that are not salient and for machines without the saliency weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation.backends.grabcut import trimap
from services.segmentation.backends.grabcut.cut import cut
from services.segmentation.backends.grabcut.scene import SALIENT, WORK_PX, Draft
from services.segmentation.geometry import Frame, bounding_box
from services.segmentation.masks import binary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.segmentation.backends.grabcut.hints import Hints
    from services.segmentation.backends.grabcut.scene import Scene
    from shared.image_codec import Grey, Rgb

_SMALL_PX = 256  # at 512, GrabCut with few sure labels takes up to 3 s
_THREADS = 2  # of a laptop's cores; under other load, the tries take 0.6 to 1.1 of the time of one thread
_REACHES = (0.05, 0.1, 0.18)  # share of the long side: radius around the drawing that starts as object
_RIM = 0.03  # share of the long side: width of the unsure band at the edge of the small mask
_SIDES, _NO_WEIGHT = (9, 9), 1e-3  # pixels on either side of an edge that are compared
_SPECK = 0.005  # share of the frame: smaller masks are taken only without an alternative
_ALL = 0.97  # share of the frame: a larger mask separates nothing
_MARGIN = 0.15  # share of the mask's long side
_CLEAR_STEP = 100.0  # the colour step across a very clear edge, in OpenCV's 8-bit Lab
_MAX_SCORE = 0.5


def make_drafts(scene: Scene, hints: Hints, wanted: int) -> list[Draft]:
    """Return up to `wanted` drafts, those with the clearest edge first."""
    frame = Frame.fit(scene.limits, _SMALL_PX)
    small = frame.crop(scene.image)
    with ThreadPoolExecutor(_THREADS) as threads:
        tries = list(threads.map(lambda reach: _cut_small(scene, hints, frame, small, reach), _REACHES))
    masks = [(_rate(small, mask), mask) for mask in tries if 0 < np.count_nonzero(mask) < _ALL * mask.size]
    masks.sort(key=lambda rated: -rated[0])
    return [_draft(scene, hints, frame, mask, score) for score, mask in masks[:wanted]]


def _cut_small(scene: Scene, hints: Hints, frame: Frame, small: Rgb, reach: float) -> Grey:
    labels = np.full(small.shape[:2], cv2.GC_PR_BGD, np.uint8)
    trimap.loosen_around(labels, frame, hints.clicks, reach)
    hints.write(labels, frame)
    return cut(scene, frame, small, labels)


def _rate(small: Rgb, mask: Grey) -> float:
    """Return the mean colour step across the edge (Lab, means of 9 x 9 on either side), reduced for large masks."""
    share = np.count_nonzero(mask) / mask.size
    inside = (mask > 0).astype(np.float32)
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    if share < _SPECK or not edge.any():
        return 0.0
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    step = _local_mean(lab, inside)[edge] - _local_mean(lab, 1 - inside)[edge]
    contrast = float(np.linalg.norm(step, axis=1).mean()) / _CLEAR_STEP
    return float(min(1.0, contrast * (1 - share)) * _MAX_SCORE)


def _local_mean(lab: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    total = np.asarray(cv2.blur(lab * weight[..., np.newaxis], _SIDES))
    return np.asarray(total / np.maximum(cv2.blur(weight, _SIDES), _NO_WEIGHT)[..., np.newaxis], np.float32)


def _draft(scene: Scene, hints: Hints, small: Frame, mask: Grey, score: float) -> Draft:
    """Convert a small mask into a draft at the full work size, with a band of unsure labels at its edge."""
    box = bounding_box(mask)
    window = small.window if box is None else small.to_image(box)
    frame = Frame.fit(window.with_margin(_MARGIN * window.long_side + 8, scene.limits), WORK_PX)
    side = 2 * round(_RIM * WORK_PX / 2) + 1
    prior = np.asarray(cv2.blur(frame.sample(mask, small.window), (side, side)), np.uint8)
    labels = trimap.from_saliency(prior, binary(prior > SALIENT))
    hints.write(labels, frame)
    return Draft(frame, labels, score)
