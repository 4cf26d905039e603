"""Drafts for a drawn box: its salient part, and GrabCut in the whole box.

The engine cuts each draft and takes the mask whose own bounding box fits the drawn box best (`measure_fit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation.backends.grabcut import trimap
from services.segmentation.backends.grabcut.salient_parts import find_salient_parts
from services.segmentation.backends.grabcut.scene import SALIENT, WORK_PX, Draft, components
from services.segmentation.geometry import Box, Frame
from services.segmentation.masks import bbox, binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from services.segmentation.backends.grabcut.scene import Scene
    from shared.image_codec import Grey

_MARGIN = 0.12  # share of the box's long side: context for the saliency
_SPILL = 0.05  # share of the box's long side: an object that ends in this margin is taken whole
_BACKGROUND = 0.05  # share of the box's long side beyond that margin: background for GrabCut's model
_FILLS = 0.25  # minimum share of the box that is salient
_SMALL_PART = 0.1  # share of the largest part: smaller parts belong to a neighbour
_PLAIN_SCORE = 0.4
_CENTRAL = 0.1  # share of each side outside the central box


def make_drafts(scene: Scene, box: Box) -> Iterator[Draft]:
    """Yield the salient part corrected by GrabCut, the salient part itself, and GrabCut in the whole box."""
    frame = Frame.fit(box.with_margin((_MARGIN + _BACKGROUND) * box.long_side + 2, scene.limits), WORK_PX)
    inside = _area(frame, box)
    if inside.all():  # leaves no background for GrabCut's model
        yield from _draft_whole(scene)
        return
    prior = scene.predict_saliency(box.with_margin(_MARGIN * box.long_side, scene.limits), frame)
    chosen = _choose_parts(np.where(inside, prior, np.uint8(0)))
    if np.count_nonzero(chosen) >= _FILLS * np.count_nonzero(inside):
        chosen = np.where(inside, chosen, _follow(chosen, prior))
        score = float(prior[chosen > 0].mean()) / 255
        labels = trimap.from_saliency(prior, chosen)
        labels[~inside & (chosen == 0)] = cv2.GC_BGD
        yield Draft(frame, labels, score, box=box)
        yield Draft(frame, np.where(chosen > 0, np.uint8(cv2.GC_FGD), np.uint8(cv2.GC_BGD)), score, box=box)
    labels = np.where(inside, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_BGD))
    yield Draft(frame, labels, _PLAIN_SCORE, box=box)


def central_box(window: Box) -> Box:
    """Return the middle of a window, 80 % of each side."""
    across, down = int(_CENTRAL * window.width), int(_CENTRAL * window.height)
    return Box(window.x0 + across, window.y0 + down, window.x1 - across, window.y1 - down)


def measure_fit(mask: Grey, box: Box) -> float:
    """Return the intersection over union, 0 to 1, of the mask's bounding box and a drawn box."""
    own = bbox(mask)
    if own is None:
        return 0.0
    across = min(own.x1, box.x1) - max(own.x0, box.x0)
    down = min(own.y1, box.y1) - max(own.y0, box.y0)
    shared = max(0, across) * max(0, down)
    return shared / (own.width * own.height + box.width * box.height - shared)


def allowed_box(mask: Grey, frame: Frame, box: Box, limits: Box) -> Box:
    """Return the box, extended by a small margin on each side where the mask ends within it.

    Where the mask runs on through the margin, the drawn side is its limit.
    """
    wide = _spill_box(box, limits)
    outside = components((mask > 0) & ~_area(frame, box))
    x0, y0 = (round(place) for place in frame.to_frame(wide.x0, wide.y0))
    x1, y1 = (round(place) for place in frame.to_frame(wide.x1, wide.y1))
    rim = np.ones_like(outside, np.bool_)
    rim[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = False
    running = np.isin(outside, np.setdiff1d(np.unique(outside[rim]), 0))
    left, top = (round(place) for place in frame.to_frame(box.x0, box.y0))
    right, bottom = (round(place) for place in frame.to_frame(box.x1, box.y1))
    return Box(
        box.x0 if running[:, :left].any() else wide.x0,
        box.y0 if running[:top].any() else wide.y0,
        box.x1 if running[:, right:].any() else wide.x1,
        box.y1 if running[bottom:].any() else wide.y1,
    )


def _spill_box(box: Box, limits: Box) -> Box:
    return box.with_margin(_SPILL * box.long_side, limits)


def _area(frame: Frame, box: Box) -> NDArray[np.bool_]:
    return np.asarray(frame.sample(np.full((1, 1), 255, np.uint8), box) > 0)


def _choose_parts(prior: Grey) -> Grey:
    """Return the salient parts, 255, without those of neighbours."""
    parts = list(find_salient_parts(prior))
    chosen = np.zeros_like(prior)
    for part in parts:
        if np.count_nonzero(part) >= _SMALL_PART * np.count_nonzero(parts[0]):
            chosen |= part
    return chosen


def _follow(chosen: Grey, prior: Grey) -> Grey:
    """Return the chosen parts with what is connected to them, also outside the box."""
    parts = components(prior > SALIENT)
    return binary(np.isin(parts, np.setdiff1d(np.unique(parts[chosen > 0]), 0)))


def _draft_whole(scene: Scene) -> Iterator[Draft]:
    """Yield the salient parts of the whole image, or without any, the drafts of its middle."""
    frame = Frame.fit(scene.limits, WORK_PX)
    prior = scene.predict_saliency(scene.limits, frame)
    chosen = _choose_parts(prior)
    if chosen.any():
        yield Draft(frame, trimap.from_saliency(prior, chosen), float(prior[chosen > 0].mean()) / 255)
    elif central_box(scene.limits) != scene.limits:
        yield from make_drafts(scene, central_box(scene.limits))
