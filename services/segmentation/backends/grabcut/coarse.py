"""For what saliency does not see, or without its weights: GrabCut grown from the drawing itself, small and quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation.backends.grabcut import trimap
from services.segmentation.backends.grabcut.cut import run_grabcut
from services.segmentation.backends.grabcut.scene import SALIENT, WORK_PX, Draft
from services.segmentation.geometry import Frame, bounding_box
from services.segmentation.masks import binary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.segmentation.backends.grabcut.hints import Hints
    from services.segmentation.backends.grabcut.scene import Scene
    from shared.image_codec import Grey, Rgb

_SMALL_PX = 256  # weak labels at 512 take up to 3 s
_REACHES = (0.05, 0.1, 0.18)  # of the long side: how far from the drawing the object is first thought to go
_RIM = 0.03  # of the long side: how far inside its edge the quick answer is not yet sure
_SIDES, _NO_WEIGHT = (9, 9), 1e-3  # pixels over which the two sides of an edge are compared
_SPECK = 0.005  # of the frame: smaller answers are only taken if there is no other
_ALL = 0.97  # of the frame: GrabCut that takes so much has separated nothing
_MARGIN = 0.15  # of the answer's long side
_CLEAR_STEP = 100.0  # in OpenCV's 8-bit Lab: the step across a very clear edge
_TRUST = 0.5  # the best score that a coarse answer can have


def make_drafts(scene: Scene, hints: Hints, wanted: int) -> list[Draft]:
    """Return up to `wanted` drafts, the ones with the clearest edge first."""
    frame = Frame.fit(scene.limits, _SMALL_PX)
    small = frame.crop(scene.image)
    tries = []
    for reach in _REACHES:
        mask = _grown(scene, hints, frame, small, reach)
        if 0 < np.count_nonzero(mask) < _ALL * mask.size:
            tries.append((_rating(small, mask), mask))
    tries.sort(key=lambda rated: -rated[0])
    return [_draft(scene, hints, frame, mask, score) for score, mask in tries[:wanted]]


def _grown(scene: Scene, hints: Hints, frame: Frame, small: Rgb, reach: float) -> Grey:
    labels = np.full(small.shape[:2], cv2.GC_PR_BGD, np.uint8)
    trimap.loosen_around(labels, frame, hints.clicks, reach)
    hints.write(labels, frame)
    return run_grabcut(small, labels, scene.checkpoint)


def _rating(small: Rgb, mask: Grey) -> float:
    """Rate by the colour step across the edge (Lab, means of 9 x 9 on either side), less where the mask is large."""
    share = np.count_nonzero(mask) / mask.size
    inside = (mask > 0).astype(np.float32)
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    if share < _SPECK or not edge.any():
        return 0.0
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    step = _local_mean(lab, inside)[edge] - _local_mean(lab, 1 - inside)[edge]
    contrast = float(np.linalg.norm(step, axis=1).mean()) / _CLEAR_STEP
    return float(min(1.0, contrast * (1 - share)) * _TRUST)


def _local_mean(lab: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    total = np.asarray(cv2.blur(lab * weight[..., np.newaxis], _SIDES))
    return np.asarray(total / np.maximum(cv2.blur(weight, _SIDES), _NO_WEIGHT)[..., np.newaxis], np.float32)


def _draft(scene: Scene, hints: Hints, small: Frame, mask: Grey, score: float) -> Draft:
    """Turn the quick answer into a draft at full work size: unsure near its edge."""
    box = bounding_box(mask)
    window = small.window if box is None else small.to_image(box)
    frame = Frame.fit(window.with_margin(_MARGIN * window.long_side + 8, scene.limits), WORK_PX)
    side = 2 * round(_RIM * WORK_PX / 2) + 1
    prior = np.asarray(cv2.blur(frame.sample(mask, small.window), (side, side)), np.uint8)
    labels = trimap.from_saliency(prior, binary(prior > SALIENT))
    hints.write(labels, frame)
    return Draft(frame, labels, score)
