"""Drafts for a box, and for no drawing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation.backends.grabcut import trimap
from services.segmentation.backends.grabcut.scene import SALIENT, WORK_PX, Draft, components
from services.segmentation.geometry import Box, Frame, bounding_box
from services.segmentation.masks import binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.segmentation.backends.grabcut.scene import Scene
    from shared.image_codec import Grey

_BOX_MARGIN = 0.12  # share of the box's long side
_FILLS = 0.25  # minimum share of the box that is salient
_SMALL_PART = 0.1  # share of the largest part: smaller parts belong to a neighbour
_SUBJECT = 0.005  # minimum share of the image
_MARGIN = 0.15  # share of the subject's long side: background for GrabCut's model
_PLAIN_SCORE = 0.4
_CENTRAL = 0.1  # share of each side outside the central box


def draft_box(scene: Scene, box: Box) -> Draft:
    """Draft the salient part of a box, or all of it if nothing is salient. Nothing outside the box is taken."""
    frame = Frame.fit(box.with_margin(_BOX_MARGIN * box.long_side + 2, scene.limits), WORK_PX)
    inside = frame.sample(np.full((1, 1), 255, np.uint8), box) > 0
    prior = np.where(inside, scene.predict_saliency(frame.window, frame), np.uint8(0))
    parts = list(_parts(prior))
    chosen = np.zeros_like(prior)
    for part in parts:
        if np.count_nonzero(part) >= _SMALL_PART * np.count_nonzero(parts[0]):
            chosen |= part
    fills = np.count_nonzero(chosen) >= _FILLS * np.count_nonzero(inside)
    if fills or (inside.all() and parts):
        labels, score = trimap.from_saliency(prior, chosen), float(prior[chosen > 0].mean()) / 255
    elif inside.all() and box != central_box(box):
        return draft_box(scene, central_box(box))  # a box around the whole image leaves no background for the model
    else:
        labels, score = np.full(prior.shape, cv2.GC_PR_FGD, np.uint8), _PLAIN_SCORE
    labels[~inside] = cv2.GC_BGD
    return Draft(frame, labels, score, within=box)


def draft_subjects(scene: Scene, wanted: int) -> list[Draft]:
    """Draft the salient parts of the image, largest first."""
    seen = Frame.fit(scene.limits, WORK_PX)
    prior = scene.predict_saliency(scene.limits, seen)
    parts = [part for part in _parts(prior) if (part > 0).mean() >= _SUBJECT]
    return [_subject(scene, seen, part, float(prior[part > 0].mean()) / 255) for part in parts[:wanted]]


def central_box(window: Box) -> Box:
    """Return the middle of a window, 80 % of each side."""
    across, down = int(_CENTRAL * window.width), int(_CENTRAL * window.height)
    return Box(window.x0 + across, window.y0 + down, window.x1 - across, window.y1 - down)


def _subject(scene: Scene, seen: Frame, part: Grey, score: float) -> Draft:
    box = seen.to_image(bounding_box(part) or Box(0, 0, seen.width, seen.height))
    frame = Frame.fit(box.with_margin(_MARGIN * box.long_side + 8, scene.limits), WORK_PX)
    prior = scene.predict_saliency(scene.limits, frame)
    chosen = binary((prior > SALIENT) & (frame.sample(part, seen.window) > 0))
    return Draft(frame, trimap.from_saliency(prior, chosen), score)


def _parts(prior: Grey) -> Iterator[Grey]:
    """Yield the connected salient parts, 255, largest first."""
    numbers = components(np.asarray(prior > SALIENT))
    areas = np.bincount(numbers.ravel())[1:]
    for number in 1 + np.argsort(-areas, kind="stable"):
        yield binary(numbers == number)
