"""Drafts for a drawn box: its salient part in two views and in their mean, and the whole box by colours alone.

The engine cuts each draft and takes the mask whose own bounding box fits the drawn box best (`rate`). A mask that runs
over a drawn side ends at the strongest edge near it, never at the side itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation.backends.grabcut import trimap
from services.segmentation.backends.grabcut.salient_parts import find_salient_parts
from services.segmentation.backends.grabcut.scene import SALIENT, WORK_PX, Draft, Ended, components
from services.segmentation.geometry import Box, Frame
from services.segmentation.masks import bbox, binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from services.segmentation.backends.grabcut.scene import Scene
    from shared.image_codec import Grey, Rgb

_MARGIN = 0.15  # share of the box's long side: the object may end in this margin
_WIDE_MARGIN = 0.3  # the same for a wider view: some parts of objects are salient only with more surroundings
_BACKGROUND = 0.05  # share of the box's long side beyond that margin: background for GrabCut's model
_CORE = 0.93  # share of the box's sides: a mask that runs over a side ends between this core and the margin
_OVAL = 0.85  # share of the box's sides: the ellipse that GrabCut starts from
_SLACK = 0.1  # share of the box's sides: users draw boxes too tight, so a mask that ends this near outside fits
_ROUND = 8  # exponent of the superellipse that bounds core and margin: curved, and it contains the box's corners
_CUT_COST = 0.25
_NEAR = np.ones((3, 3), np.uint8)
_FILLS = 0.25  # minimum share of the box that is salient
_SMALL_PART = 0.1  # share of the largest part: smaller parts belong to a neighbour
_PLAIN_SCORE = 0.4
_CENTRAL = 0.1  # share of each side outside the central box


def make_drafts(scene: Scene, box: Box) -> Iterator[Draft]:
    """Yield the salient part in a close view, in a wider one and in their mean, then GrabCut by colours alone.

    Colours alone are tried twice: from an ellipse in the box, and from the whole box.
    """
    frame = Frame.fit(box.with_margin((_MARGIN + _BACKGROUND) * box.long_side + 2, scene.limits), WORK_PX)
    inside = _area(frame, box)
    if inside.all():  # GrabCut's model would have no background
        yield from _draft_whole(scene)
        return
    close, wide = (box.with_margin(margin * box.long_side, scene.limits) for margin in (_MARGIN, _WIDE_MARGIN))
    yield from _draft_salient(scene, frame, box, close)
    if wide != close:
        yield from _draft_salient(scene, frame, box, wide)
    yield from _draft_mean(scene, frame, box, (close, wide))
    yield Draft(frame, _label_oval(frame, box, _area(frame, close)), _PLAIN_SCORE, box=box, is_plain=True)
    whole = np.where(inside, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_BGD))
    yield Draft(frame, whole, _PLAIN_SCORE, box=box, is_plain=True, is_bounded=True)


def _draft_salient(scene: Scene, frame: Frame, box: Box, view: Box) -> Iterator[Draft]:
    """Yield the part of a box that is salient in a view, if it fills enough of the box."""
    inside = _area(frame, box)
    prior = scene.predict_saliency(view, frame)
    chosen = _choose_parts(np.where(inside, prior, np.uint8(0)))
    if np.count_nonzero(chosen) >= _FILLS * np.count_nonzero(inside):
        chosen = np.where(inside, chosen, _follow(chosen, prior))
        labels = trimap.from_saliency(prior, chosen)
        labels[~inside & (chosen == 0)] = cv2.GC_BGD
        yield Draft(frame, labels, float(prior[chosen > 0].mean()) / 255, box=box)


def _draft_mean(scene: Scene, frame: Frame, box: Box, views: tuple[Box, Box]) -> Iterator[Draft]:
    """Yield the part that is salient on average, with an outline that may move through the whole close view.

    If the views contain only a piece of the object, or too much, its colours decide.
    """
    close, wide = (scene.predict_saliency(view, frame) for view in views)
    prior = np.asarray(cv2.addWeighted(close, 0.5, wide, 0.5, 0), np.uint8)
    chosen = binary(_area(frame, box) & (prior > SALIENT))
    if chosen.any():
        near = _area(frame, views[0])
        labels = trimap.from_saliency(prior, chosen)
        labels[near & (labels == cv2.GC_BGD)] = cv2.GC_PR_BGD
        labels[~near] = cv2.GC_BGD
        yield Draft(frame, labels, float(prior[chosen > 0].mean()) / 255, box=box)


def _label_oval(frame: Frame, box: Box, allowed: NDArray[np.bool_]) -> Grey:
    """Label an ellipse in the box as probable object, and the rest of the allowed pixels as probable background."""
    labels = np.where(allowed, np.uint8(cv2.GC_PR_BGD), np.uint8(cv2.GC_BGD))
    middle, radii = _centre(frame, box)
    size = [max(1, round(_OVAL * radius)) for radius in radii]
    cv2.ellipse(labels, (round(middle[0]), round(middle[1])), size, 0, 0, 360, cv2.GC_PR_FGD, -1)
    return labels


def central_box(window: Box) -> Box:
    """Return the middle of a window, 80 % of each side."""
    across, down = int(_CENTRAL * window.width), int(_CENTRAL * window.height)
    return Box(window.x0 + across, window.y0 + down, window.x1 - across, window.y1 - down)


def measure_fit(mask: Grey, box: Box) -> float:
    """Return the intersection over union, 0 to 1, of the mask's bounding box and a drawn box.

    A mask that reaches over a side by up to a tenth loses nothing.
    """
    own = bbox(mask)
    if own is None:
        return 0.0
    across, down = _SLACK * box.width, _SLACK * box.height
    return Box(
        box.x0 if 0 < box.x0 - own.x0 <= across else own.x0,
        box.y0 if 0 < box.y0 - own.y0 <= down else own.y0,
        box.x1 if 0 < own.x1 - box.x1 <= across else own.x1,
        box.y1 if 0 < own.y1 - box.y1 <= down else own.y1,
    ).measure_overlap(box)


def rate(ended: Ended, box: Box) -> float:
    """Return how well a mask fits a drawn box: the fit of its bounding box, minus a cost for a cut outline."""
    return measure_fit(ended.mask, box) - _CUT_COST * ended.cut


def end_at_edges(pixels: Rgb, mask: Grey, frame: Frame, box: Box) -> Ended:
    """Return the hard mask of a frame, cut near the drawn sides that it runs over.

    An object that ends in the margin stays whole. Elsewhere the watershed between the core of the box and the end of
    the margin finds the strongest edge: the drawn side itself would be a straight cut.
    """
    running = _find_running_sides(mask, frame, box)
    if not any(running):
        return Ended(mask, 0.0)
    markers = np.zeros(mask.shape, np.int32)
    markers[_measure_level(frame, box, running, _CORE) < 1] = 1
    markers[_measure_level(frame, box, running, 1.0, _MARGIN * box.long_side * frame.scale) >= 1] = 2
    ended = binary((mask > 0) & _flood(pixels, markers))
    outline = np.asarray(cv2.morphologyEx(ended, cv2.MORPH_GRADIENT, _NEAR))
    cut = cv2.bitwise_and(outline, cv2.erode(mask, _NEAR, iterations=2))
    return Ended(ended, cv2.countNonZero(cut) / max(1, cv2.countNonZero(outline)))


def measure_contact(mask: Grey, frame: Frame, box: Box) -> float:
    """Return the share of a mask's outline that lies along the sides of a box, 0 to 1."""
    outline = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _NEAR))
    sides = cv2.dilate(binary(~_area(frame, box)), _NEAR)
    return cv2.countNonZero(cv2.bitwise_and(outline, sides)) / max(1, cv2.countNonZero(outline))


def _flood(pixels: Rgb, markers: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return the watershed's area of marker 1. The added rim is needed: OpenCV leaves the border unassigned."""
    rim = (1, 1, 1, 1, cv2.BORDER_REPLICATE)
    flooded = cv2.copyMakeBorder(markers, *rim)
    cv2.watershed(cv2.copyMakeBorder(pixels, *rim), flooded)
    return np.asarray(flooded[1:-1, 1:-1] == 1)


def _find_running_sides(mask: Grey, frame: Frame, box: Box) -> tuple[bool, bool, bool, bool]:
    """Return for left, top, right and bottom whether the mask runs over the drawn side and through its margin."""
    outside = components((mask > 0) & ~_area(frame, box))
    wide = box.with_margin(_MARGIN * box.long_side, frame.window)
    x0, y0 = (round(place) for place in frame.to_frame(wide.x0, wide.y0))
    x1, y1 = (round(place) for place in frame.to_frame(wide.x1, wide.y1))
    rim = np.ones_like(outside, np.bool_)
    rim[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = False
    running = np.isin(outside, np.setdiff1d(np.unique(outside[rim]), 0))
    left, top = (round(place) for place in frame.to_frame(box.x0, box.y0))
    right, bottom = (round(place) for place in frame.to_frame(box.x1, box.y1))
    return (
        bool(running[:, :left].any()),
        bool(running[:top].any()),
        bool(running[:, right:].any()),
        bool(running[bottom:].any()),
    )


def _measure_level(
    frame: Frame, box: Box, sides: tuple[bool, bool, bool, bool], share: float, margin: float = 0.0
) -> NDArray[np.float32]:
    """Return the level of a superellipse in the box, 1 on its line; only the given sides bound it."""
    (x, y), (across, down) = _centre(frame, box)
    left, top, right, bottom = sides
    columns = (np.arange(frame.width, dtype=np.float32) + 0.5 - x) / (share * across + margin)
    rows = (np.arange(frame.height, dtype=np.float32) + 0.5 - y) / (share * down + margin)
    columns[(columns < 0) & (not left) | (columns > 0) & (not right)] = 0
    rows[(rows < 0) & (not top) | (rows > 0) & (not bottom)] = 0
    return np.asarray(columns[None] ** _ROUND + rows[:, None] ** _ROUND, np.float32)


def _centre(frame: Frame, box: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the middle of a box and half its sides, in pixels of the frame."""
    (x0, y0), (x1, y1) = frame.to_frame(box.x0, box.y0), frame.to_frame(box.x1, box.y1)
    return ((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2)


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
    """Return the chosen parts with all salient pixels connected to them, also outside the box."""
    parts = components(prior > SALIENT)
    return binary(np.isin(parts, np.setdiff1d(np.unique(parts[chosen > 0]), 0)))


def _draft_whole(scene: Scene) -> Iterator[Draft]:
    """Yield a draft of the salient parts of the whole image or, if there are none, the drafts of its middle."""
    frame = Frame.fit(scene.limits, WORK_PX)
    prior = scene.predict_saliency(scene.limits, frame)
    chosen = _choose_parts(prior)
    if chosen.any():
        yield Draft(frame, trimap.from_saliency(prior, chosen), float(prior[chosen > 0].mean()) / 255)
    elif central_box(scene.limits) != scene.limits:
        yield from make_drafts(scene, central_box(scene.limits))
