"""Segment Anything on the CPU, from ONNX files of SAM 2.1 or MobileSAM: it finds whole objects, not only colours."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation import saliency
from services.segmentation.backend import Candidate, Click, Outlined
from services.segmentation.backends.grabcut import boxes, corrections, edges, salient_parts
from services.segmentation.backends.grabcut.scene import WORK_PX, Scene
from services.segmentation.backends.sam import questions
from services.segmentation.backends.sam.models import MODELS, find_model
from services.segmentation.backends.sam.network import EDGE, Network, Question
from services.segmentation.backends.sam.questions import Meaning
from services.segmentation.geometry import Box, Frame, bounding_box
from services.segmentation.masks import binary, iou
from shared.errors import NothingFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from services.segmentation.backend import CachedFeatures, Checkpoint, Prompt, SeenFeatures
    from services.segmentation.settings import Settings
    from shared.image_codec import Grey, Rgb

_MARGIN = 0.06  # share of the object's long side: room for the edge filter
_SAME = 0.9  # IoU above which two masks are one answer
_ALL = 0.97  # share of the image: a larger mask separates nothing
_SPECK = 0.01  # share of the mask: smaller parts are removed unless a click lies on them


class Sam:
    """Has no state per request; threads may share it."""

    name = "sam"
    note = None

    def __init__(self, settings: Settings) -> None:
        self.model = find_model(settings.model_dir) or MODELS[0]
        """The folder of MODEL_DIR that holds the network."""
        self._network = Network(settings.model_dir, self.model)
        self._saliency = saliency.load(settings.model_dir)

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """See Engine.segment."""
        checkpoint()
        scene = Scene(image, self._saliency, cached, checkpoint)
        if prompt.points:
            found = self._segment_points(scene, prompt)
        elif prompt.auto:
            found = self._segment_subjects(scene, prompt.candidates)
        else:
            found = self._ask(scene, *questions.read_prompt(self._network.layout, prompt, scene.limits))
        distinct = list(islice(_distinct(found), prompt.candidates))
        if not distinct:
            raise NothingFound
        return distinct

    def outline(self, width: int, height: int, click: Click, seen: SeenFeatures) -> Outlined | None:
        """See Outliner.outline."""
        embedding = seen(self._network.name)
        if embedding is None:
            return None
        limits, layout = Box(0, 0, width, height), self._network.layout
        maps = self._network.answer(embedding, questions.ask_clicks(layout, [click], width, height), width, height)
        for number, score in questions.rank(layout, maps, Meaning(clicks=(click,)), limits):
            return Outlined(binary(questions.object_in(layout, maps.levels[number], limits)), score)
        return Outlined(np.zeros((1, 1), np.uint8), 0.0)

    def _ask(self, scene: Scene, question: Question, meaning: Meaning) -> Iterator[Candidate]:
        """Yield the masks for a question, at the image's size, best first."""
        layout, limits = self._network.layout, scene.limits
        embedding = self._network.see(scene.image, scene.cached, scene.checkpoint)
        scene.checkpoint()
        maps = self._network.answer(embedding, question, limits.width, limits.height)
        window = layout.window(limits.width, limits.height)
        for number, score in questions.rank(layout, maps, meaning, limits):
            scene.checkpoint()
            mask = _enlarge(scene, maps.levels[number], window, meaning.clicks)
            if mask is not None:
                yield Candidate(mask, score)

    def _segment_subjects(self, scene: Scene, wanted: int) -> Iterator[Candidate]:
        """Yield the best mask for the box of each salient part."""
        width, height = scene.limits.width, scene.limits.height
        for box in _find_subjects(scene, wanted):
            question = questions.ask_box(self._network.layout, box, width, height)
            yield from islice(self._ask(scene, question, Meaning(box=box)), 1)

    def _segment_points(self, scene: Scene, prompt: Prompt) -> Iterator[Candidate]:
        """Yield the mask after all clicks, replayed in order, and then the answers to all of them at once.

        The score of the first is 1, because the clicks decided it.
        """
        clicks = prompt.points
        if len(clicks) > 1 or prompt.previous is not None:
            mask = self._replay(scene, clicks, prompt.previous)
            if mask is not None and mask.any():
                yield Candidate(mask, 1.0)
        yield from self._answer(scene, clicks)

    def _answer(self, scene: Scene, clicks: tuple[Click, ...], before: Grey | None = None) -> Iterator[Candidate]:
        """Yield the masks for clicks, best first; each agrees with all clicks."""
        limits = scene.limits
        question = questions.ask_clicks(self._network.layout, clicks, limits.width, limits.height, before)
        for each in self._ask(scene, question, Meaning(clicks=clicks)):
            yield Candidate(corrections.enforce(scene, each.mask, clicks), each.score)

    def _replay(self, scene: Scene, clicks: tuple[Click, ...], before: Grey | None) -> Grey | None:
        """Return the mask after all clicks. Each depends on the mask before it and on the clicks up to it only."""
        mask, done = before, len(clicks) - 1
        if mask is None:
            done = next((number for number, click in enumerate(clicks, 1) if click.positive), len(clicks))
            mask = _first_mask(self._answer(scene, clicks[:done]))
        for count in range(done + 1, len(clicks) + 1):
            mask = self._correct(scene, mask, clicks[:count])
        return mask

    def _correct(self, scene: Scene, before: Grey | None, clicks: tuple[Click, ...]) -> Grey | None:
        """Return the mask after the last of these clicks. A click near the edge changes only a disc around it."""
        if before is None:
            return _first_mask(self._answer(scene, clicks))
        last = clicks[-1]
        if len(clicks) <= corrections.MAX_ANSWERS and corrections.contradicts(before, last):
            new = _first_mask(self._answer(scene, clicks, before))
            if new is not None:
                before = _hold_outside(new, before, corrections.find_shallow_disc(scene, before, last))
        return corrections.enforce(scene, before, clicks)


def _first_mask(found: Iterator[Candidate]) -> Grey | None:
    best = next(found, None)
    return None if best is None else best.mask


def _distinct(found: Iterable[Candidate]) -> Iterator[Candidate]:
    """Yield the masks without near duplicates, in their order, with falling scores."""
    kept: list[Candidate] = []
    for each in found:
        if all(iou(each.mask, other.mask) <= _SAME for other in kept):
            kept.append(Candidate(each.mask, min([each.score, *(other.score for other in kept)])))
            yield kept[-1]


def _find_subjects(scene: Scene, wanted: int) -> list[Box]:
    """Return the boxes of the salient parts, largest first; without the weights of u2netp, the middle of the image."""
    if scene.saliency is None:
        return [boxes.central_box(scene.limits)]
    return salient_parts.find_boxes(scene)[:wanted]


def _enlarge(scene: Scene, level: Grey, window: Box, clicks: tuple[Click, ...]) -> Grey | None:
    """Return a map as a mask of the image's size, with its edge on the object's edge; None if it separates nothing."""
    frame = Frame.fit(scene.limits, WORK_PX)
    box = bounding_box(binary(frame.sample(level, window) >= EDGE))
    if box is None:
        return None
    found = frame.to_image(box)
    frame = Frame.fit(found.with_margin(_MARGIN * found.long_side + 8, scene.limits), WORK_PX)
    hard = _without_specks(binary(frame.sample(level, window) >= EDGE), frame, clicks)
    taken = np.count_nonzero(hard) * frame.window.width * frame.window.height
    if not hard.any() or taken >= _ALL * hard.size * scene.limits.width * scene.limits.height:
        return None
    mask = edges.refine(scene.image, frame, frame.crop(scene.image), hard)
    return mask if mask.max() == EDGE * 2 - 1 else None


def _without_specks(mask: Grey, frame: Frame, clicks: tuple[Click, ...]) -> Grey:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= _SPECK * np.count_nonzero(mask)
    kept = set(np.flatnonzero(large).tolist())
    for click in clicks:
        x, y = frame.to_frame(click.x, click.y)
        if click.positive and 0 <= x < frame.width and 0 <= y < frame.height:
            kept.add(int(parts[int(y), int(x)]))
    return binary(np.isin(parts, list(kept - {0})))


def _hold_outside(new: Grey, old: Grey, disc: tuple[float, float, float] | None) -> Grey:
    """Return the new mask inside a disc and the old one outside; the new one without a disc."""
    if disc is None:
        return new
    x, y, radius = (round(value) for value in disc)
    near = np.zeros_like(old)
    cv2.circle(near, (x, y), max(1, radius), 255, thickness=-1)
    return np.where(near > 0, new, old)
