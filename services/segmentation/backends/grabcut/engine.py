"""The default engine: saliency proposes the object, GrabCut finds its outline, a guided filter refines the edge."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation import saliency
from services.segmentation.backend import Candidate, Outlined, Prompt
from services.segmentation.backends.grabcut import boxes, coarse, corrections, edges, salient_parts, views
from services.segmentation.backends.grabcut.cut import cut
from services.segmentation.backends.grabcut.hints import Clicks, Painting, Strokes
from services.segmentation.backends.grabcut.scene import Ended, Scene
from services.segmentation.geometry import Box
from services.segmentation.masks import iou
from shared.errors import BadInput, NothingFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.segmentation.backend import CachedFeatures, Checkpoint, Click, SeenFeatures
    from services.segmentation.backends.grabcut.hints import Hints
    from services.segmentation.backends.grabcut.scene import Draft
    from services.segmentation.settings import Settings
    from shared.image_codec import Grey, Rgb

_COARSE = "The coarse method was used, because the weights of u2netp are not installed."
_FITS = 0.9  # a mask with this fit to the drawn box is taken, and no further one is computed
_PREFERENCE = 0.05  # an alternative to the first draft must fit better by this, or by twice this if from colours alone
_SAME = 0.9  # IoU above which two masks are one answer
_ALL = 0.97  # share of the allowed area: a larger mask separates nothing
_MIN_AREA_PX = 12  # at work size


class GrabCut:
    """Works at 512 pixels for images of any size. Has no state per request; threads may share it."""

    name = "grabcut"

    def __init__(self, settings: Settings) -> None:
        self._saliency = saliency.load(settings.model_dir)
        self.note = None if self._saliency else _COARSE

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """See Engine.segment."""
        scene = Scene(image, self._saliency, cached, checkpoint)
        if prompt.box is not None:
            return _segment_box(scene, prompt.box, prompt.candidates)
        found: list[Candidate] = []
        if len(prompt.points) > 1 or prompt.previous is not None:
            found = _replay(scene, prompt)
        if len(found) < prompt.candidates:
            for draft in _make_drafts(scene, prompt):
                ended = _cut_and_end(scene, draft)
                if ended is not None and all(iou(ended.mask, other.mask) <= _SAME for other in found):
                    found.append(Candidate(ended.mask, draft.score))
        if not found:
            raise NothingFound
        return found[: prompt.candidates]

    def outline(self, width: int, height: int, click: Click, seen: SeenFeatures) -> Outlined | None:
        """See Outliner.outline: the salient part under the point, in the whole image or in a view seen before."""
        return None if self._saliency is None else views.outline(Box(0, 0, width, height), click, seen)


def _replay(scene: Scene, prompt: Prompt) -> list[Candidate]:
    """Return the mask after all clicks. Its score is 1, because the clicks decided it and no network can rate that."""

    def answer(known: Sequence[Click]) -> Ended | None:
        ended = (_cut_and_end(scene, draft) for draft in _make_drafts(scene, Prompt(points=tuple(known))))
        return next((one for one in ended if one is not None), None)

    mask = corrections.replay(scene, prompt.points, answer, prompt.previous)
    return [] if mask is None or not mask.any() else [Candidate(mask, 1.0)]


def _segment_box(scene: Scene, box: Box, wanted: int) -> list[Candidate]:
    """Return up to `wanted` masks, those that fit the drawn box best first."""
    ratings: list[float] = []
    found: list[Candidate] = []
    for draft in boxes.make_drafts(scene, box):
        ended = _cut_and_end(scene, draft)
        if ended is not None:
            rating = boxes.rate(ended, box)
            first, plain = 0.0 if found else _PREFERENCE, _PREFERENCE if draft.is_plain else 0.0
            ratings.append(rating + first - plain)
            found.append(Candidate(ended.mask, draft.score))
            if wanted == 1 and rating >= _FITS:
                break
    ranked = [found[rank] for rank in np.argsort([-rating for rating in ratings], kind="stable")]
    distinct: list[Candidate] = []
    for candidate in ranked:
        if all(iou(candidate.mask, other.mask) <= _SAME for other in distinct):
            distinct.append(candidate)
    if not distinct:
        raise NothingFound
    return distinct[:wanted]


def _make_drafts(scene: Scene, prompt: Prompt) -> Iterable[Draft]:
    if prompt.auto:
        subjects = salient_parts.make_drafts(scene, prompt.candidates)
        return subjects or islice(boxes.make_drafts(scene, boxes.central_box(scene.limits)), 1)
    hints = _make_hints(prompt, scene.limits)
    if not any(click.positive for click in hints.clicks):  # negative strokes cover all positive ones
        return []
    return views.make_drafts(scene, hints, prompt.candidates) or coarse.make_drafts(scene, hints, prompt.candidates)


def _make_hints(prompt: Prompt, limits: Box) -> Hints:
    if prompt.points:
        return Clicks(prompt.points)
    if prompt.strokes:
        return Strokes(prompt.strokes, limits)
    if prompt.guidance is not None:
        return Painting(prompt.guidance, limits)
    raise BadInput("The prompt is empty.")


def _cut_and_end(scene: Scene, draft: Draft) -> Ended | None:
    """Return the mask of a draft at the image's size, or None if GrabCut separates nothing."""
    small = draft.frame.crop(scene.image)
    mask = cut(scene, draft.frame, small, draft.labels)
    taken, allowed = np.count_nonzero(mask), np.count_nonzero(draft.labels != cv2.GC_BGD)
    has_model = bool((draft.labels == cv2.GC_FGD).any())
    if taken < _MIN_AREA_PX or (taken >= _ALL * allowed and not has_model):
        return None
    scene.checkpoint()
    hard = _end(draft, small, mask)
    return Ended(edges.refine(scene.image, draft.frame, small, hard.mask), hard.cut)


def _end(draft: Draft, pixels: Rgb, mask: Grey) -> Ended:
    """End the mask of a draft at the sides of the drawn box, if there is one."""
    if draft.box is None:
        return Ended(mask, draft.cut)
    if draft.is_bounded:
        return Ended(mask, boxes.measure_contact(mask, draft.frame, draft.box))
    return boxes.end_at_edges(pixels, mask, draft.frame, draft.box)
