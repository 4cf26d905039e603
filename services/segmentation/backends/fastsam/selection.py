"""Which of the things seen in a picture a prompt means: pure decisions, best first."""

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

    Places = list[tuple[float, float]]

_LIES_ON = 0.6  # of a stroke, or of a painted area, from which a thing holds it
_GROUP = 3.0  # times the area of the parts: a thing so much larger is what they lie on, not what they make up
_BOX_FITS = 0.2  # intersection over union of a thing's box and the one that was drawn
_IN_BOX = 0.9  # of a thing, from which it is one of several in a box
_PAINT_FITS = 0.3  # intersection over union of a thing and a painted area
_PAINTED = 0.6  # of a thing, from which it is one of several that were painted over
_GROUND = 0.9  # of the picture's width and height: what reaches so far is no subject
_ASIDE = 0.5  # how much less a thing at the border counts than one in the middle


class Selection(NamedTuple):
    """One reading of a prompt: the numbers of the instances to join, and of those to cut out of them."""

    take: tuple[int, ...]
    leave: tuple[int, ...] = ()


def find(instances: Instances, prompt: Prompt) -> list[Candidate]:
    """Return 1 to `prompt.candidates` masks, best first; none is surer than the one before. Raises NothingFound."""
    found, sure = [], 1.0
    for meant in rank_selections(instances, prompt)[: prompt.candidates]:
        sure = min(sure, *(instances.score(number) for number in meant.take))
        mask = instances.mask(meant.take, meant.leave)
        if mask.any():
            found.append(Candidate(mask, sure))
    if not found:
        raise NothingFound
    return found


def excluded_mask(instances: Instances, prompt: Prompt) -> Grey | None:
    """Return the mask of the smallest things under the negative marks that hold no positive one; None without any."""
    meant, against = _marks(prompt, instances.limits)
    held, denied = np.asarray(_held(instances, meant).any(axis=1)), _held(instances, against)
    others = [int(number) for number in np.argsort(instances.areas, kind="stable") if not held[number]]
    out = {under[0] for mark in denied.T if (under := _smallest(others, mark[np.newaxis]))}
    return instances.mask(out) if out else None


def rank_selections(instances: Instances, prompt: Prompt) -> list[Selection]:
    """Return what the prompt may mean, the likeliest first."""
    if not len(instances):
        return []
    if prompt.box is not None:
        return _boxed(instances, prompt.box)
    if prompt.guidance is not None:
        return _painted(instances, prompt.guidance)
    if prompt.auto:
        return _subjects(instances)
    meant, denied = _marks(prompt, instances.limits)
    return _marked(instances, _held(instances, meant), _held(instances, denied))


def _marks(prompt: Prompt, limits: Box) -> tuple[list[Places], list[Places]]:
    """Return the places of each mark that lies on the object, and of each that does not."""
    marks = [[click] for click in prompt.points]
    marks += [list(Strokes([stroke], limits).clicks) for stroke in prompt.strokes]
    sides = ([mark for mark in marks if mark and mark[0].positive == wanted] for wanted in (True, False))
    meant, denied = ([[(click.x, click.y) for click in mark] for mark in side] for side in sides)
    return meant, denied


def _held(instances: Instances, marks: Sequence[Places]) -> NDArray[np.bool_]:
    """Return (n, marks): which things hold each mark, all but its ends."""
    shares = [instances.contain(places).mean(axis=1) for places in marks]
    return np.array(shares).reshape(len(marks), len(instances)).T >= _LIES_ON


def _marked(instances: Instances, held: NDArray[np.bool_], denied: NDArray[np.bool_]) -> list[Selection]:
    """Of things that hold all marks the smallest, else the smallest of each mark together; none that is denied."""
    smallest_first = np.argsort(instances.areas, kind="stable").tolist()
    free = [number for number in smallest_first if not denied[number].any()]
    whole = [Selection((number,)) for number in free if held[number].all()]
    parts = _smallest(free, held.T)
    if parts and len(parts) > 1:
        limit = _GROUP * instances.areas[list(parts)].sum()
        whole.insert(sum(bool(instances.areas[meant.take[0]] <= limit) for meant in whole), Selection(parts))
    return whole or _carved(smallest_first, held, denied)


def _carved(smallest_first: list[int], held: NDArray[np.bool_], denied: NDArray[np.bool_]) -> list[Selection]:
    """Where whatever holds the marks is denied too: take it, without the smaller things under what was denied."""
    found = []
    for rank, number in enumerate(smallest_first):
        if held[number].all():
            inner = [other for other in smallest_first[:rank] if not held[other].any()]
            under = _smallest(inner, denied[:, denied[number]].T)
            if under:
                found.append(Selection((number,), under))
    return found


def _smallest(smallest_first: list[int], marks: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Return the smallest of these things under each mark, (marks, n), each once; None where one is under none."""
    under = [next((number for number in smallest_first if mark[number]), None) for mark in marks]
    return None if None in under else tuple(dict.fromkeys(number for number in under if number is not None))


def _boxed(instances: Instances, box: Box) -> list[Selection]:
    """Instances whose own box is the one that was drawn, more or less; else all that lie in it."""
    x0, y0, x1, y1 = instances.boxes.T
    across = np.minimum(x1, box.x1) - np.maximum(x0, box.x0)
    down = np.minimum(y1, box.y1) - np.maximum(y0, box.y0)
    shared, own = across.clip(0) * down.clip(0), (x1 - x0) * (y1 - y0)
    fits = shared / (own + box.width * box.height - shared)
    order = [Selection((int(number),)) for number in np.argsort(-fits, kind="stable") if fits[number] >= _BOX_FITS]
    inside = tuple(int(number) for number in np.flatnonzero(shared >= _IN_BOX * own))
    return order or ([Selection(inside)] if inside else [])


def _painted(instances: Instances, area: Grey) -> list[Selection]:
    """Rank instances of the painted shape; without one, all painted over; else the smallest around the paint."""
    shared, painted = instances.overlap_with(area)
    fits = shared / (instances.areas + painted - shared)
    order = [Selection((int(number),)) for number in np.argsort(-fits, kind="stable") if fits[number] >= _PAINT_FITS]
    over = tuple(int(number) for number in np.flatnonzero(shared >= _PAINTED * instances.areas))
    round_it = np.flatnonzero(shared >= _LIES_ON * painted)
    smallest = round_it[np.argsort(instances.areas[round_it], kind="stable")]
    return order or ([Selection(over)] if over else [Selection((int(number),)) for number in smallest])


def _subjects(instances: Instances) -> list[Selection]:
    """Instances that are no background: the large, sure and central ones first."""
    x0, y0, x1, y1 = instances.boxes.T
    width, height = instances.limits.width, instances.limits.height
    ground = (x1 - x0 > _GROUND * width) & (y1 - y0 > _GROUND * height)
    off_centre = np.hypot((x0 + x1) / width - 1, (y0 + y1) / height - 1).clip(0, 1)
    scores = np.array([instances.score(number) for number in range(len(instances))])
    weight = np.sqrt(instances.areas) * scores * (1 - _ASIDE * off_centre)
    return [Selection((int(number),)) for number in np.argsort(-weight, kind="stable") if not ground[number]]
