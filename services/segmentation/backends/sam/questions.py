"""Turns prompts into questions for the decoder, and chooses among its answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.segmentation.backends.grabcut.hints import Painting, Strokes
from services.segmentation.backends.sam.network import EDGE, Maps, Question
from services.segmentation.geometry import Box, Frame, bounding_box
from services.segmentation.masks import binary, iou
from shared.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from services.segmentation.backend import Click, Prompt
    from services.segmentation.backends.sam.layouts import Layout
    from shared.image_codec import Grey

_STRENGTH = 10.0  # logits of a mask that is given to the decoder; its own output lies between -32 and 32
_MAX_POINTS = 16  # points of one question: more points make the answer worse and slower
_ON, _OFF, _CORNERS = 1, 0, (2, 3)
_SEVERAL = 4  # maps, of which the first is for prompts of several points (SAM's paper, "resolving ambiguity")


@dataclass(frozen=True, slots=True, eq=False)
class Meaning:
    """The drawing that the answers must fit, besides the network's own score."""

    clicks: tuple[Click, ...] = ()
    """Points that must be inside the mask (positive) or outside it."""
    box: Box | None = None
    area: Grey | None = None
    """A painted area, of the image's size."""


def ask_clicks(
    layout: Layout, clicks: Sequence[Click], width: int, height: int, before: Grey | None = None
) -> Question:
    """Return the question of clicks; `before` is the mask that they correct, of the image's size."""
    points = [layout.scale_point(click.x, click.y, width, height) for click in clicks]
    mask = None if before is None else layout.mask_input(before, _STRENGTH)
    return Question(points, [_ON if click.positive else _OFF for click in clicks], mask)


def ask_box(layout: Layout, box: Box, width: int, height: int) -> Question:
    """Return the question of a box."""
    corners = [layout.scale_point(x, y, width, height) for x, y in ((box.x0, box.y0), (box.x1, box.y1))]
    return Question(corners, list(_CORNERS))


def read_prompt(layout: Layout, prompt: Prompt, limits: Box) -> tuple[Question, Meaning]:
    """Return the question of a prompt without points and the drawing that its answers must fit. Raises BadInput."""
    width, height = limits.width, limits.height
    if prompt.box is not None:
        return ask_box(layout, prompt.box, width, height), Meaning(box=prompt.box)
    if prompt.strokes:
        clicks = Strokes(prompt.strokes, limits).clicks
        return ask_clicks(layout, _thin(clicks), width, height), Meaning(clicks=clicks)
    if prompt.guidance is None:
        raise BadInput("The prompt is empty.")
    clicks = Painting(prompt.guidance, limits).clicks
    question = ask_clicks(layout, _thin(clicks), width, height, before=prompt.guidance)
    return question, Meaning(clicks=clicks, area=prompt.guidance)


def _thin(clicks: Sequence[Click]) -> list[Click]:
    """Return at most 8 positive and 8 negative points."""
    thinned: list[Click] = []
    for positive in (True, False):
        same = [click for click in clicks if click.positive == positive]
        thinned += same[:: max(1, -(-len(same) // (_MAX_POINTS // 2)))]
    return thinned


def rank(layout: Layout, maps: Maps, meaning: Meaning, limits: Box) -> list[tuple[int, float]]:
    """Return the numbers of the answers with their scores, 0 to 1, those that fit the prompt best first."""
    single = len(meaning.clicks) == 1 and meaning.area is None
    first = 1 if len(maps.scores) == _SEVERAL and single else 0
    fits = {number: _fit(layout, maps.levels[number], meaning, limits) for number in range(first, len(maps.scores))}
    order = sorted(fits, key=lambda number: -fits[number] * (0.5 + float(maps.scores[number])))
    return [(number, float(maps.scores[number]) * fits[number]) for number in order if fits[number] > 0]


def object_in(layout: Layout, level: Grey, limits: Box) -> NDArray[np.bool_]:
    """Return the object in the part of a map that shows the image."""
    across, down = layout.map_size(limits.width, limits.height)
    return np.asarray(level[:down, :across] >= EDGE)


def _fit(layout: Layout, level: Grey, meaning: Meaning, limits: Box) -> float:
    """Return how well a map fits the prompt, 0 to 1; 0 for an empty one."""
    inside = object_in(layout, level, limits)
    if not inside.any():
        return 0.0
    frame = Frame(limits, inside.shape[1], inside.shape[0])
    fit = _agreement(inside, frame, meaning.clicks)
    if meaning.box is not None:
        own = frame.to_image(bounding_box(binary(inside)) or limits)
        fit *= max(0.01, own.measure_overlap(meaning.box))
    if meaning.area is not None:
        fit *= iou(binary(inside), frame.crop(meaning.area))
    return float(fit)


def _agreement(inside: NDArray[np.bool_], frame: Frame, clicks: Sequence[Click]) -> float:
    """Return the share of points with which the map agrees, at least 0.01; 1 if there are no points."""
    if not clicks:
        return 1.0
    held = []
    for click in clicks:
        x, y = frame.to_frame(click.x, click.y)
        column, row = min(max(0, int(x)), frame.width - 1), min(max(0, int(y)), frame.height - 1)
        held.append(bool(inside[row, column]) == click.positive)
    return max(0.01, sum(held) / len(held))
