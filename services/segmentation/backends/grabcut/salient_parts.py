"""Finds the salient parts of an image, and makes drafts for the largest ones without a drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.segmentation.backends.grabcut import trimap
from services.segmentation.backends.grabcut.scene import SALIENT, WORK_PX, Draft, components
from services.segmentation.geometry import Box, Frame, bounding_box
from services.segmentation.masks import binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.segmentation.backends.grabcut.scene import Scene
    from shared.image_codec import Grey

_SUBJECT = 0.005  # minimum share of the image
_MARGIN = 0.15  # share of the subject's long side: background for GrabCut's model


def make_drafts(scene: Scene, wanted: int) -> list[Draft]:
    """Draft the salient parts of the image, largest first."""
    seen = Frame.fit(scene.limits, WORK_PX)
    prior = scene.predict_saliency(scene.limits, seen)
    parts = _find_subjects(prior)[:wanted]
    return [_subject(scene, seen, part, float(prior[part > 0].mean()) / 255) for part in parts]


def find_boxes(scene: Scene) -> list[Box]:
    """Return the boxes of the salient parts of the image, in its pixels, largest part first."""
    seen = Frame.fit(scene.limits, WORK_PX)
    found = (bounding_box(part) for part in _find_subjects(scene.predict_saliency(scene.limits, seen)))
    return [seen.to_image(box) for box in found if box is not None]


def _find_subjects(prior: Grey) -> list[Grey]:
    return [part for part in find_salient_parts(prior) if (part > 0).mean() >= _SUBJECT]


def _subject(scene: Scene, seen: Frame, part: Grey, score: float) -> Draft:
    box = seen.to_image(bounding_box(part) or Box(0, 0, seen.width, seen.height))
    frame = Frame.fit(box.with_margin(_MARGIN * box.long_side + 8, scene.limits), WORK_PX)
    prior = scene.predict_saliency(scene.limits, frame)
    chosen = binary((prior > SALIENT) & (frame.sample(part, seen.window) > 0))
    return Draft(frame, trimap.from_saliency(prior, chosen), score)


def find_salient_parts(prior: Grey) -> Iterator[Grey]:
    """Yield the connected salient parts, 255, largest first."""
    numbers = components(np.asarray(prior > SALIENT))
    areas = np.bincount(numbers.ravel())[1:]
    for number in 1 + np.argsort(-areas, kind="stable"):
        yield binary(numbers == number)
