"""The default engine: saliency proposes the object, GrabCut finds its outline, a guided filter refines the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation import saliency
from services.segmentation.backend import Candidate
from services.segmentation.backends.grabcut import coarse, edges, regions, views
from services.segmentation.backends.grabcut.cut import run_grabcut
from services.segmentation.backends.grabcut.hints import Clicks, Painting, Strokes
from services.segmentation.backends.grabcut.scene import Scene
from services.segmentation.masks import iou, keep_inside
from shared.errors import BadInput, NothingFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.segmentation.backend import CachedFeatures, Checkpoint, Prompt
    from services.segmentation.backends.grabcut.hints import Hints
    from services.segmentation.backends.grabcut.scene import Draft
    from services.segmentation.geometry import Box
    from services.segmentation.settings import Settings
    from shared.image_codec import Grey, Rgb

_COARSE = "The coarse method was used, because the weights of u2netp are not installed."
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
        found: list[Candidate] = []
        for draft in _make_drafts(scene, prompt):
            mask = _cut(scene, draft)
            if mask is not None and all(iou(mask, other.mask) <= _SAME for other in found):
                found.append(Candidate(mask, draft.score))
        if not found:
            raise NothingFound
        return found


def _make_drafts(scene: Scene, prompt: Prompt) -> Iterable[Draft]:
    if prompt.box is not None:
        return [regions.draft_box(scene, prompt.box)]
    if prompt.auto:
        subjects = regions.draft_subjects(scene, prompt.candidates)
        return subjects or [regions.draft_box(scene, regions.central_box(scene.limits))]
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


def _cut(scene: Scene, draft: Draft) -> Grey | None:
    """Return the mask of a draft at the image's size, or None if GrabCut separates nothing."""
    small = draft.frame.crop(scene.image)
    mask = run_grabcut(small, draft.labels, scene.checkpoint)
    taken, allowed = np.count_nonzero(mask), np.count_nonzero(draft.labels != cv2.GC_BGD)
    has_model = bool((draft.labels == cv2.GC_FGD).any())
    if taken < _MIN_AREA_PX or (taken >= _ALL * allowed and not has_model):
        return None
    scene.checkpoint()
    refined = edges.refine(scene.image, draft.frame, small, mask)
    return refined if draft.within is None else keep_inside(refined, draft.within)
