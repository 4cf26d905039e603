"""Select the instances that a prompt means. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from services.segmentation.backend import Candidate
from services.segmentation.backends.grabcut.hints import Strokes
from shared.errors import NothingFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from services.segmentation.backend import Prompt
    from services.segmentation.backends.fastsam.instances import Instances
    from services.segmentation.geometry import Box
    from shared.image_codec import Grey

    Points = list[tuple[float, float]]

_LIES_ON = 0.6  # share of a stroke or painted area that an instance must cover
_GROUP = 3.0  # times the area of the parts: a larger instance is their background, not their union
_BOX_FITS = 0.2  # minimum IoU of an instance's box and the drawn box
_IN_BOX = 0.9  # share of an instance inside the box, to count as one of several
_PAINT_FITS = 0.3  # minimum IoU of an instance and a painted area
_PAINTED = 0.6  # painted share of an instance, to count as one of several
_GROUND = 0.9  # share of the image's width and height: larger instances are background
_ASIDE = 0.5  # weight lost at the border compared with the centre


class Selection(NamedTuple):
    """One interpretation of a prompt: the numbers of the instances to join, and of those to cut out of them."""

    take: tuple[int, ...]
    leave: tuple[int, ...] = ()


def find(instances: Instances, prompt: Prompt) -> list[Candidate]:
    """Return 1 to `prompt.candidates` masks, best first, with falling scores. Raises NothingFound."""
    found, score = [], 1.0
    for selection in rank_selections(instances, prompt)[: prompt.candidates]:
        score = min(score, *(instances.score(number) for number in selection.take))
        mask = instances.mask(selection.take, selection.leave)
        if mask.any():
            found.append(Candidate(mask, score))
    if not found:
        raise NothingFound
    return found


def excluded_mask(instances: Instances, prompt: Prompt) -> Grey | None:
    """Return the mask of the smallest instances under the negative marks that contain no positive mark, or None."""
    positive, negative = _marks(prompt, instances.limits)
    held, denied = np.asarray(_covers(instances, positive).any(axis=1)), _covers(instances, negative)
    others = [int(number) for number in np.argsort(instances.areas, kind="stable") if not held[number]]
    out = {under[0] for mark in denied.T if (under := _smallest_under(others, mark[np.newaxis]))}
    return instances.mask(out) if out else None


def rank_selections(instances: Instances, prompt: Prompt) -> list[Selection]:
    """Return the possible meanings of the prompt, the most likely first."""
    if not len(instances):
        return []
    if prompt.box is not None:
        return _rank_by_box(instances, prompt.box)
    if prompt.guidance is not None:
        return _rank_by_paint(instances, prompt.guidance)
    if prompt.auto:
        return _rank_subjects(instances)
    positive, negative = _marks(prompt, instances.limits)
    return _rank_by_marks(instances, _covers(instances, positive), _covers(instances, negative))


def _marks(prompt: Prompt, limits: Box) -> tuple[list[Points], list[Points]]:
    """Return the points of each positive mark, and of each negative one."""
    marks = [[click] for click in prompt.points]
    marks += [list(Strokes([stroke], limits).clicks) for stroke in prompt.strokes]
    sides = ([mark for mark in marks if mark and mark[0].positive == wanted] for wanted in (True, False))
    positive, negative = ([[(click.x, click.y) for click in mark] for mark in side] for side in sides)
    return positive, negative


def _covers(instances: Instances, marks: Sequence[Points]) -> NDArray[np.bool_]:
    """Return (n, marks): whether each instance covers each mark, except for its ends."""
    shares = [instances.contain(points).mean(axis=1) for points in marks]
    return np.array(shares).reshape(len(marks), len(instances)).T >= _LIES_ON


def _rank_by_marks(instances: Instances, held: NDArray[np.bool_], denied: NDArray[np.bool_]) -> list[Selection]:
    """Rank the instances on all marks and no negative one, smallest first, with the union of each mark's smallest."""
    smallest_first = np.argsort(instances.areas, kind="stable").tolist()
    free = [number for number in smallest_first if not denied[number].any()]
    whole = [Selection((number,)) for number in free if held[number].all()]
    parts = _smallest_under(free, held.T)
    if parts and len(parts) > 1:
        limit = _GROUP * instances.areas[list(parts)].sum()
        whole.insert(sum(bool(instances.areas[selection.take[0]] <= limit) for selection in whole), Selection(parts))
    return whole or _remove_denied(smallest_first, held, denied)


def _remove_denied(smallest_first: list[int], held: NDArray[np.bool_], denied: NDArray[np.bool_]) -> list[Selection]:
    """Take a denied instance that covers all marks, minus the smaller instances under the negative marks."""
    found = []
    for rank, number in enumerate(smallest_first):
        if held[number].all():
            inner = [other for other in smallest_first[:rank] if not held[other].any()]
            under = _smallest_under(inner, denied[:, denied[number]].T)
            if under:
                found.append(Selection((number,), under))
    return found


def _smallest_under(smallest_first: list[int], marks: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Return the smallest instance under each mark, (marks, n), without duplicates; None if a mark has none."""
    under = [next((number for number in smallest_first if mark[number]), None) for mark in marks]
    return None if None in under else tuple(dict.fromkeys(number for number in under if number is not None))


def _rank_by_box(instances: Instances, box: Box) -> list[Selection]:
    """Rank instances by the fit of their box to the drawn box. If none fits, join all inside it."""
    x0, y0, x1, y1 = instances.boxes.T
    across = np.minimum(x1, box.x1) - np.maximum(x0, box.x0)
    down = np.minimum(y1, box.y1) - np.maximum(y0, box.y0)
    shared, own = across.clip(0) * down.clip(0), (x1 - x0) * (y1 - y0)
    fits = shared / (own + box.width * box.height - shared)
    order = [Selection((int(number),)) for number in np.argsort(-fits, kind="stable") if fits[number] >= _BOX_FITS]
    inside = tuple(int(number) for number in np.flatnonzero(shared >= _IN_BOX * own))
    return order or ([Selection(inside)] if inside else [])


def _rank_by_paint(instances: Instances, area: Grey) -> list[Selection]:
    """Rank by fit to the painted shape. If none fits, join the painted instances, or rank those around it by size."""
    shared, painted = instances.overlap_with(area)
    fits = shared / (instances.areas + painted - shared)
    order = [Selection((int(number),)) for number in np.argsort(-fits, kind="stable") if fits[number] >= _PAINT_FITS]
    over = tuple(int(number) for number in np.flatnonzero(shared >= _PAINTED * instances.areas))
    round_it = np.flatnonzero(shared >= _LIES_ON * painted)
    smallest = round_it[np.argsort(instances.areas[round_it], kind="stable")]
    return order or ([Selection(over)] if over else [Selection((int(number),)) for number in smallest])


def _rank_subjects(instances: Instances) -> list[Selection]:
    """Rank instances that are not background: large, confident and central ones first."""
    x0, y0, x1, y1 = instances.boxes.T
    width, height = instances.limits.width, instances.limits.height
    ground = (x1 - x0 > _GROUND * width) & (y1 - y0 > _GROUND * height)
    off_centre = np.hypot((x0 + x1) / width - 1, (y0 + y1) / height - 1).clip(0, 1)
    scores = np.array([instances.score(number) for number in range(len(instances))])
    weight = np.sqrt(instances.areas) * scores * (1 - _ASIDE * off_centre)
    return [Selection((int(number),)) for number in np.argsort(-weight, kind="stable") if not ground[number]]
