"""Corrections by click: replay the clicks in order, and edit the mask only near a click that lies close to its edge.

A click deep inside or far outside the mask may change which object is meant; then the whole answer is computed again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from services.segmentation.backends.grabcut import edges, trimap
from services.segmentation.backends.grabcut.cut import cut
from services.segmentation.backends.grabcut.hints import Clicks
from services.segmentation.backends.grabcut.scene import WORK_PX, components
from services.segmentation.geometry import Frame, square_box, whole_image
from services.segmentation.masks import INSIDE, binary, resize_nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from services.segmentation.backend import Click
    from services.segmentation.backends.grabcut.scene import Ended, Scene
    from shared.image_codec import Grey, Rgb

_SHALLOW = 0.12  # share of the square root of the mask's area: the depth up to which a click edits the mask
_BESIDE = 0.3  # the same share for a positive click: beside a small object it means more of it, not all around it
_REACH = 3.5  # depths: the radius of an edit
_MIN_REACH, _MAX_REACH = 0.02, 0.25  # shares of the image's long side
_CORE = 0.5  # share of the mask's largest depth: only a deeper negative click may reject the object
_IDLE = 0.5  # squared depths of the click: an edit that changes less shows no effect
_CONTAINS = 0.9  # share of the old mask that a new answer must contain after a positive click
_WITHIN = 0.8  # share of a new answer that must lie in the old mask after a negative click
_REMAINS = 0.3  # share of the old mask that must remain after a negative click outside its core
_CUT_OFF = 0.5  # from this cut on, an answer is only a part of an object
_VIEW = 1.5  # radii: half the side of the window around an edit; its rim is the models' sure part
_EDIT_PX = 256  # side of that window at work size
_DOT_PX = 2  # radius of a click at work size
MAX_ANSWERS = 10  # clicks; later ones only edit, so that many clicks take only seconds


def replay(
    scene: Scene,
    clicks: Sequence[Click],
    answer: Callable[[Sequence[Click]], Ended | None],
    previous: Grey | None = None,
) -> Grey | None:
    """Return the mask after all clicks, or None if there is none. `answer` computes the mask of clicks afresh.

    `previous` is the mask before the last click. Each click depends only on the mask before it and on the clicks up to
    it, so `previous` does not change the result.
    """
    mask, done = previous, len(clicks) - 1
    if mask is None:
        done = next((number for number, click in enumerate(clicks, 1) if click.positive), len(clicks))
        mask = _mask_of(answer(clicks[:done]))
    for count in range(done + 1, len(clicks) + 1):
        mask = _follow(scene, mask, clicks[:count], answer)
    return mask


def _mask_of(answer: Ended | None) -> Grey | None:
    return None if answer is None else answer.mask


def _follow(
    scene: Scene, mask: Grey | None, clicks: Sequence[Click], answer: Callable[[Sequence[Click]], Ended | None]
) -> Grey | None:
    """Return the mask after the last of these clicks, from the mask before it."""
    if mask is None:
        mask = _mask_of(answer(clicks))
        return mask if mask is None else enforce(scene, mask, clicks)
    last = clicks[-1]
    edited = enforce(scene, mask, clicks)
    if not contradicts(mask, last) or len(clicks) > MAX_ANSWERS:
        return edited
    contradiction = _measure_effect(scene, mask, edited, clicks)
    if contradiction.may_change_object:
        new = answer(clicks)
        if new is not None and _replaces(new, mask, contradiction):
            return enforce(scene, new.mask, clicks)
    return edited


class _Contradiction(NamedTuple):
    """A click that the mask contradicts: its depth in the mask, and whether the edit there has an effect."""

    click: Click
    is_deep: bool
    in_core: bool
    is_idle: bool
    has_rejected: bool
    """Whether there is a negative click: a positive one then means more of this mask, not a larger object."""

    @property
    def may_change_object(self) -> bool:
        """Whether another object may be meant."""
        if self.click.positive and self.has_rejected:
            return False
        return self.is_deep and (self.click.positive or self.in_core or self.is_idle)


def _measure_effect(scene: Scene, before: Grey, after: Grey, clicks: Sequence[Click]) -> _Contradiction:
    """Measure the last click by the mask before it and the edited mask."""
    last = clicks[-1]
    frame, inside, depth = _measure(scene, before, last)
    core = cv2.distanceTransform(
        cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, cv2.DIST_MASK_5
    )
    changed = np.count_nonzero((frame.crop(before) > INSIDE) != (frame.crop(after) > INSIDE))
    return _Contradiction(
        last,
        is_deep=depth >= (_BESIDE if last.positive else _SHALLOW) * math.sqrt(np.count_nonzero(inside)),
        in_core=depth > _CORE * float(core.max()),
        is_idle=bool(changed < _IDLE * depth**2),
        has_rejected=any(not click.positive for click in clicks),
    )


def _replaces(new: Ended, mask: Grey, asked: _Contradiction) -> bool:
    """Return whether a new answer agrees with the click that caused it.

    A positive click asks for more than the mask, a negative one for a part of it. An answer that is cut off by its view
    is only a part of an object; it replaces the mask only if the edit does nothing.
    """
    if contradicts(new.mask, asked.click):
        return False
    old, answered = mask > INSIDE, new.mask > INSIDE
    kept, size = np.count_nonzero(old & answered), np.count_nonzero(old)
    if asked.click.positive:
        return asked.is_idle or bool(kept >= _CONTAINS * size)
    if kept < _WITHIN * np.count_nonzero(answered) or (new.cut > _CUT_OFF and not asked.is_idle):
        return False
    return asked.in_core or bool(kept >= _REMAINS * size)


def contradicts(mask: Grey, click: Click) -> bool:
    """Return whether a mask of the image's size is wrong at a click."""
    return bool(mask[int(click.y), int(click.x)] > INSIDE) != click.positive


def find_shallow_disc(scene: Scene, mask: Grey, click: Click) -> tuple[float, float, float] | None:
    """Return centre and radius, in image pixels, of the disc that a click near the mask's edge edits, else None."""
    frame, inside, measured = _measure(scene, mask, click)
    if measured >= _SHALLOW * math.sqrt(np.count_nonzero(inside)):
        return None
    return click.x, click.y, _edit_reach(scene, measured / frame.scale)


def _edit_reach(scene: Scene, depth_px: float) -> float:
    side = scene.limits.long_side
    return min(max(_REACH * depth_px, _MIN_REACH * side), _MAX_REACH * side)


def _measure(scene: Scene, mask: Grey, click: Click) -> tuple[Frame, Grey, float]:
    """Return a frame of the image, the mask in it, and the click's distance to the mask's edge in its pixels."""
    frame = Frame.fit(scene.limits, WORK_PX)
    inside = binary(frame.crop(mask) > INSIDE)
    distance = cv2.distanceTransform(255 - inside if click.positive else inside, cv2.DIST_L2, cv2.DIST_MASK_5)
    x, y = frame.to_frame(click.x, click.y)
    depth = float(distance[min(int(y), frame.height - 1), min(int(x), frame.width - 1)])
    return frame, inside, float(np.clip(depth, 1.0, max(distance.shape)))


def enforce(scene: Scene, mask: Grey, clicks: Sequence[Click]) -> Grey:
    """Edit the mask at each click that it contradicts, the latest last."""
    for click in clicks:
        if contradicts(mask, click):
            mask = _edit(scene, mask, clicks, click)
    return mask


def _edit(scene: Scene, mask: Grey, clicks: Sequence[Click], click: Click) -> Grey:
    """Add to the mask around a positive click, or remove from it around a negative one; the rest stays."""
    whole, _, measured = _measure(scene, mask, click)
    depth = measured / whole.scale
    reach = _edit_reach(scene, depth)
    window = square_box(click.x, click.y, round(2 * _VIEW * reach) + 3, scene.limits)
    frame = Frame.fit(window, _EDIT_PX)
    small, old = frame.crop(scene.image), frame.crop(mask) > INSIDE
    disc = _disc(frame, click, reach * frame.scale)
    labels = _label(old, disc, _disc(frame, click, depth * frame.scale) & disc, click)
    Clicks(tuple(clicks)).write(labels, frame)
    new = cut(scene, frame, small, labels) > 0
    dot = _disc(frame, click, _DOT_PX)
    changed = dot | (disc & (new == click.positive) & (old != click.positive))
    parts = components(changed)
    own = np.isin(parts, np.setdiff1d(np.unique(parts[dot]), 0))
    others = np.zeros_like(own)
    for other in clicks:
        if other.positive != click.positive and window.contains(other.x, other.y):
            others |= _disc(frame, other, _DOT_PX)
    return _paste(scene.image, mask, frame, own & ~others, others, click)


def _disc(frame: Frame, click: Click, radius: float) -> NDArray[np.bool_]:
    disc = np.zeros((frame.height, frame.width), np.uint8)
    trimap.fill_disc(disc, *frame.to_frame(click.x, click.y), radius)
    return np.asarray(disc > 0)


def _label(old: NDArray[np.bool_], disc: NDArray[np.bool_], near: NDArray[np.bool_], click: Click) -> Grey:
    """Keep the mask outside the disc, and let GrabCut decide inside; near the click the mask is probably wrong."""
    sure = np.where(old, np.uint8(cv2.GC_FGD), np.uint8(cv2.GC_BGD))
    unsure = np.where(old, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_PR_BGD))
    labels = np.where(disc, unsure, sure)
    labels[near] = cv2.GC_PR_FGD if click.positive else cv2.GC_PR_BGD
    return labels


def _paste(
    image: Rgb, mask: Grey, frame: Frame, own: NDArray[np.bool_], others: NDArray[np.bool_], click: Click
) -> Grey:
    """Return a copy of the mask with the changed pixels of a frame, soft at their edge; `others` stay as they are."""
    crop, result = image[frame.window.slices], mask.copy()
    part = result[frame.window.slices]
    local = Frame(whole_image(crop), frame.width, frame.height)
    soft = edges.refine(crop, local, frame.crop(image), binary(own))
    soft[resize_nearest(binary(others), local.window.width, local.window.height) > 0] = 0
    part[...] = np.maximum(part, soft) if click.positive else np.minimum(part, 255 - soft)
    if contradicts(result, click):  # thinner than the filter can follow
        result[int(click.y), int(click.x)] = 255 if click.positive else 0
    return result
