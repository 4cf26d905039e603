"""Choose the view, from the whole image to a fifth of it, in which the drawn object is salient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from services.segmentation import saliency
from services.segmentation.backend import Outlined
from services.segmentation.backends.grabcut import details, trimap
from services.segmentation.backends.grabcut.scene import SALIENT, WORK_PX, Draft, components
from services.segmentation.geometry import Frame, bounding_box, enclosing_box, square_box
from services.segmentation.masks import binary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from services.segmentation.backend import Click, SeenFeatures
    from services.segmentation.backends.grabcut.hints import Hints
    from services.segmentation.backends.grabcut.scene import Scene
    from services.segmentation.geometry import Box
    from shared.image_codec import Grey

_SHARES = (0.7, 0.45, 0.3, 0.2)  # shares of the image's long side
_SPARE = 1.4  # minimum size of a view, in sizes of the drawing
_SPREAD_SHARE = 0.1  # share of the long side: a larger drawing also gives a view of its own size
_SPREAD_MARGIN = 0.25  # share of the drawing's long side
_RATED_PX = 320  # the resolution of the saliency
_MARGIN = 0.15  # share of the object's long side: background for GrabCut's model
_DEEP_SHARE = 0.05  # share of the view's long side: a deeper negative click rejects the object
_BORDER_COST, _UNSURE_COST, _DEEP_COST, _SIZE_COST, _WHOLE_BONUS = 0.35, 0.15, 1.5, 0.8, 0.06
_CUT = 4.0  # the cost is full if the object touches a quarter of the border
_HAZE = (38, 217)  # saliency .15 to .85
_FIT = 0.6  # minimum mean saliency to take the whole image without closer views
_MIN_SCORE = 0.45  # below it, drafts from the drawing alone are better
_ALTERNATIVE = 0.75  # minimum score of a second candidate
_CLEAR, _UNCUT = 0.8, 0.1  # minimum score and maximum cut of a separate object in each of the two closest views
_STABLE = 0.75  # minimum overlap of its boxes in both views


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The salient object under the positive points in a window; `fits` if no closer view is needed.

    `cut` measures how much of the window's border the object touches, 0 to 1.
    """

    window: Box
    object_box: Box
    score: float
    cut: float
    fits: bool


def make_drafts(scene: Scene, hints: Hints, wanted: int) -> list[Draft]:
    """Return up to `wanted` drafts, best first, or none. Compute closer views only if needed."""
    rated = []
    for window in _windows(scene.limits, hints):
        view = _rate(scene, window, hints)
        if view is not None:
            rated.append(view)
            if wanted == 1 and view.fits:
                break
    rated.sort(key=lambda view: -view.score)
    detail = _find_detail(scene, hints)
    if detail is not None:
        rated = [detail, *(view for view in rated if view.window != detail.window)]
    good = [view for rank, view in enumerate(rated) if view.score >= (_ALTERNATIVE if rank else _MIN_SCORE)]
    return [_draft(scene, view, hints) for view in good[:wanted]]


def _find_detail(scene: Scene, hints: Hints) -> View | None:
    """Return the view of an object that looks the same at two magnifications, for a first click on it.

    For a point inside a large object, a close view shows no whole object, or another one at each magnification.
    """
    if hints.first is None or len(hints.clicks) > 1 or not details.stands_out(scene, hints.first):
        return None
    windows = list(_windows(scene.limits, hints))
    closest, wider = windows[-1], windows[-2:][0]  # in a tiny image, both are the same window
    close = _rate(scene, closest, hints)
    wide = _rate(scene, wider, hints) if _is_whole(close) else None
    if close is None or wide is None or not _is_whole(wide):
        return None
    return close if close.object_box.measure_overlap(wide.object_box) >= _STABLE else None


def _is_whole(view: View | None) -> bool:
    return view is not None and view.score >= _CLEAR and view.cut <= _UNCUT


def outline(limits: Box, click: Click, seen: SeenFeatures) -> Outlined | None:
    """Return the salient part of the whole image under a point; None if its saliency is not cached."""
    stretched = seen(saliency.name_of(limits))
    if stretched is None:
        return None
    frame = Frame.fit(limits, _RATED_PX)
    prior = frame.sample(np.asarray(stretched, np.uint8), limits)
    chosen = _under(prior, frame, [click])
    return Outlined(chosen, float(prior[chosen > 0].mean()) / 255 if chosen.any() else 0.0)


def _windows(limits: Box, hints: Hints) -> Iterable[Box]:
    """Return the whole image, then squares that are large enough to contain the drawing, without duplicates.

    Later clicks use those squares of the first click that have enough room for them: their saliency is cached.
    """
    drawn = enclosing_box((click.x, click.y) for click in hints.clicks if click.positive)
    if hints.first is not None:
        room = drawn.with_margin((_SPARE - 1) / 2 * drawn.long_side, limits)
        squares = _squares(limits, enclosing_box([hints.first[:2]]))
        if kept := [square for square in squares if square.encloses(room)]:
            return dict.fromkeys([limits, *kept])
    windows = [limits]
    if drawn.long_side > _SPREAD_SHARE * limits.long_side:
        windows.append(drawn.with_margin(_SPREAD_MARGIN * drawn.long_side, limits))
    return dict.fromkeys([*windows, *_squares(limits, drawn)])


def _squares(limits: Box, drawn: Box) -> Iterator[Box]:
    """Yield squares around a drawing, the largest first."""
    x, y = (drawn.x0 + drawn.x1) / 2, (drawn.y0 + drawn.y1) / 2
    for share in _SHARES:
        side = max(1, round(share * limits.long_side), round(_SPARE * drawn.long_side))
        yield square_box(x, y, side, limits)


def _rate(scene: Scene, window: Box, hints: Hints) -> View | None:
    """Rate the salient object in a window; return None if nothing is salient under the positive points."""
    frame = Frame.fit(window, _RATED_PX)
    prior = scene.predict_saliency(window, frame)
    chosen = _under(prior, frame, hints.clicks)
    box = bounding_box(chosen)
    if box is None:
        return None
    object_box, is_whole = frame.to_image(box), window == scene.limits
    sure = float(prior[chosen > 0].mean()) / 255 * _positive_share(chosen, frame, hints.clicks)
    doubts = _DEEP_COST * _negative_count(chosen, frame, hints.clicks) + _SIZE_COST * _oversize(
        object_box, hints.extent_px
    )
    cut = _cut_off(chosen, window, scene.limits)
    vague = _BORDER_COST * cut + _UNSURE_COST * _uncertainty(prior, chosen)
    score = sure - doubts - vague + _WHOLE_BONUS * is_whole
    return View(window, object_box, float(score), cut, fits=is_whole and not doubts and sure > _FIT)


def _draft(scene: Scene, view: View, hints: Hints) -> Draft:
    positive = [(click.x, click.y) for click in hints.clicks if click.positive]
    box = enclosing_box([*positive, view.object_box[:2], (view.object_box.x1 - 1, view.object_box.y1 - 1)])
    frame = Frame.fit(box.with_margin(_MARGIN * box.long_side + 8, scene.limits), WORK_PX)
    prior = scene.predict_saliency(view.window, frame)
    labels = trimap.from_saliency(prior, _under(prior, frame, hints.clicks))
    trimap.loosen_around(labels, frame, hints.clicks)
    hints.write(labels, frame)
    return Draft(frame, labels, min(1.0, view.score), cut=view.cut)


def _under(prior: Grey, frame: Frame, clicks: Sequence[Click]) -> Grey:
    """Return the salient parts, 255, that contain a positive point."""
    parts = components(np.asarray(prior > SALIENT))
    held = {int(_at(parts, frame, click)) for click in clicks if click.positive} - {0}
    return binary(np.isin(parts, list(held)))


def _at(values: NDArray[Any], frame: Frame, click: Click) -> float:
    """Return the value of the frame under a click; 0 outside the frame."""
    if not frame.window.contains(click.x, click.y):
        return 0.0
    x, y = frame.to_frame(click.x, click.y)
    height, width = values.shape
    return float(values[min(int(y), height - 1), min(int(x), width - 1)])


def _positive_share(chosen: Grey, frame: Frame, clicks: Sequence[Click]) -> float:
    """Return the share of the positive points inside the object."""
    covered = [_at(chosen, frame, click) > 0 for click in clicks if click.positive]
    return sum(covered) / len(covered)


def _negative_count(chosen: Grey, frame: Frame, clicks: Sequence[Click]) -> float:
    """Count the negative points inside the object; points near its edge count less."""
    depth = np.asarray(cv2.distanceTransform(chosen, cv2.DIST_L2, cv2.DIST_MASK_5))
    deep = _DEEP_SHARE * max(depth.shape)
    return float(sum(min(1.0, _at(depth, frame, click) / deep) for click in clicks if not click.positive))


def _oversize(object_box: Box, extent_px: float) -> float:
    """Return how many times the object's size must be halved to be twice the size of the drawing."""
    return max(0.0, math.log2(object_box.long_side / extent_px) - 1) if extent_px else 0.0


def _cut_off(chosen: Grey, window: Box, limits: Box) -> float:
    """Return how much of the window's border the object touches, 0 to 1, without the image's own border."""
    lines = (
        (window.x0 > limits.x0, chosen[:, 0]),
        (window.x1 < limits.x1, chosen[:, -1]),
        (window.y0 > limits.y0, chosen[0]),
        (window.y1 < limits.y1, chosen[-1]),
    )
    inner = [line for is_inner, line in lines if is_inner]
    return min(1.0, _CUT * float((np.concatenate(inner) > 0).mean())) if inner else 0.0


def _uncertainty(prior: Grey, chosen: Grey) -> float:
    haze = np.count_nonzero((prior > _HAZE[0]) & (prior < _HAZE[1]))
    return min(1.0, haze / np.count_nonzero(chosen))
