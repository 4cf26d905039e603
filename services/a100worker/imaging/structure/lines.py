"""Straight edges that run into a hole on one side and out of it on another: horizons, kerbs, roofs, rails.

Segments beside the hole come from the line segment detector (Grompone von Gioi et al. 2010). Two make a line if each
points at the other, and if the colours on both sides agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np

from services.a100worker.imaging.placement import bounding_box

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

    Vector: TypeAlias = NDArray[np.float64]
    """x and y."""

_REACH, _LEAST_REACH_PX = 0.75, 24  # share of the hole's long side: the distance within which lines are looked for
_LEAST, _LEAST_PX = 0.12, 10  # share of the hole's long side: shorter segments have no exact direction
_GAP, _LEAST_GAP_PX = 0.2, 8  # share of the hole's long side: segments that end farther away do not run into it
_BLUR_PX = 0.8
_STEP_PX = 3.0  # distance from the edge at which the colours beside it are read
_CLEAR = 10.0  # grey levels: the colour step across a line
_SAME_COLOUR = 60.0  # grey levels
_SAME_STEP = 0.3
_BEYOND_PX = 26  # the line's continuation past the end of a segment
_ALIKE, _SWAPPED, _SWAPPED_PX = 40.0, 0.4, 12  # in grey levels and as a share of the step, along this many pixels
_TURN = math.cos(math.radians(5))
_OFFSET, _LEAST_OFFSET_PX = 0.05, 2.5  # share of the chord: the distance by which one side may miss the other
_LEAST_CHORD_PX = 4.0
_MOST = 12  # lines of a hole
_PLACES = 9  # points of a segment at which its distance to the hole is measured
_MOST_SEGMENTS, _MOST_SIDES = 200, 64  # the longest and the clearest; a drawing of stripes has thousands


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The visible part of a line beside the hole: the point where it enters the hole, and its direction into it."""

    enter: Vector
    into: Vector
    seen_px: float
    colours: NDArray[np.float64]
    """Of its left side and of its right one, as six numbers."""

    @property
    def step(self) -> NDArray[np.float64]:
        """The change of colour from right to left."""
        return self.colours[:3] - self.colours[3:]

    @property
    def clearness(self) -> float:
        """How strong and long the edge is."""
        return float(np.abs(self.step).max()) * math.sqrt(self.seen_px)


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A line through the hole, from one side to the other."""

    start: Side
    end: Side


def find_lines(image: Rgb, hole: Grey, avoid: Grey) -> list[Line]:
    """Return the lines that run through the hole, the clearest first. Pixels of `avoid` are not searched."""
    rated = []
    for one, other in combinations(_find_sides(image, hole, avoid), 2):
        rating = _rate(one, other)
        if rating > 0:
            rated.append((rating, one, other))
    rated.sort(key=lambda line: -line[0])
    lines: list[Line] = []
    for _, one, other in rated:
        if len(lines) < _MOST and not any(side in {line.start, line.end} for line in lines for side in (one, other)):
            lines.append(Line(one, other))
    return lines


def sample(image: Rgb | Grey, points: Vector) -> NDArray[np.float64]:
    """Return the image at points (n, 2), interpolated between its pixels."""
    places = points.astype(np.float32)
    found = cv2.remap(image, places[:, :1], places[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float64).reshape(len(points), -1)


def normal_of(direction: Vector) -> Vector:
    """Return the direction turned to its left side."""
    return np.array([-direction[1], direction[0]])


def _find_sides(image: Rgb, hole: Grey, avoid: Grey) -> list[Side]:
    box = bounding_box(hole)
    if box is None:
        return []
    size = max(box.width, box.height)
    near = box.expand(max(_LEAST_REACH_PX, round(_REACH * size)), hole.shape)
    grey = cv2.GaussianBlur(cv2.cvtColor(image[near.slices], cv2.COLOR_RGB2GRAY), (0, 0), _BLUR_PX)
    found: Any = cv2.createLineSegmentDetector(cv2.LSD_REFINE_NONE).detect(grey)[0]
    if found is None:
        return []
    hidden = np.asarray(cv2.dilate(hole | avoid, np.ones((5, 5), np.uint8)), np.uint8)
    least_px = max(_LEAST_PX, _LEAST * size)
    local = _choose_segments(found.reshape(-1, 2, 2).astype(np.float64), hole[near.slices], least_px, size)
    sides = []
    for ends in local + np.array([near.x, near.y]):
        for far, close in _visible_parts(ends, hidden, least_px):
            pairs = (far, close), (close, far)
            sides += [side for pair in pairs if (side := _enter(image, hole, hidden, size, *pair))]
    return sorted(sides, key=lambda side: -side.clearness)[:_MOST_SIDES]


def _choose_segments(segments: Vector, hole: Grey, least_px: float, size: int) -> Vector:
    """Return the longest of the segments that come near the hole."""
    away = cv2.distanceTransform(255 - hole, cv2.DIST_L2, cv2.DIST_MASK_3)
    along = np.linspace(segments[:, 0], segments[:, 1], _PLACES, axis=1)
    places = np.rint(along).astype(np.intp).clip(0, np.array(hole.shape[::-1]) - 1)
    lengths = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)
    near = away[places[..., 1], places[..., 0]].min(axis=1) <= max(_LEAST_GAP_PX, _GAP * size) + lengths / _PLACES
    chosen = np.flatnonzero(near & (lengths >= least_px))
    return segments[chosen[np.argsort(-lengths[chosen], kind="stable")][:_MOST_SEGMENTS]]


def _visible_parts(ends: Vector, hidden: Grey, least_px: float) -> Iterator[tuple[Vector, Vector]]:
    """Yield the ends of the visible parts of a segment."""
    points = np.linspace(ends[0], ends[1], math.ceil(float(np.linalg.norm(ends[1] - ends[0]))) + 1)
    places = np.rint(points).astype(np.intp).clip(0, np.array(hidden.shape[::-1]) - 1)
    free = np.concatenate([[0], hidden[places[:, 1], places[:, 0]] == 0, [0]]).astype(np.int8)
    changes = np.flatnonzero(np.diff(free))
    for first, last in zip(changes[::2], changes[1::2] - 1, strict=True):
        if last - first >= least_px:
            yield points[first], points[last]


def _enter(image: Rgb, hole: Grey, hidden: Grey, size: int, far: Vector, close: Vector) -> Side | None:
    """Return the side of a line that is seen from `far` to `close`; None if it does not run into the hole."""
    seen = float(np.linalg.norm(close - far))
    into = (close - far) / seen
    gap = max(_LEAST_GAP_PX, _GAP * size)
    enter = _find_entry(hole, close, into, gap)
    if enter is None:
        return None
    along = np.linspace(far, close, 12)[1:]
    normal = _STEP_PX * normal_of(into)
    colours = np.concatenate([np.median(sample(image, along + side), axis=0) for side in (normal, -normal)])
    side = Side(enter, into, float(np.linalg.norm(enter - far)), colours)
    if np.abs(side.step).max() < _CLEAR or _swaps_colours(image, hidden, side, far):
        return None
    return side


def _find_entry(hole: Grey, point: Vector, into: Vector, gap: float) -> Vector | None:
    """Return the first pixel of the hole on a ray, at most `gap` pixels away."""
    points = point + np.arange(0, gap, 0.5)[:, None] * into
    places = np.rint(points).astype(np.intp)
    inside = ((places >= 0) & (places < hole.shape[::-1])).all(axis=1)
    places = places.clip(0, np.array(hole.shape[::-1]) - 1)
    hits = np.flatnonzero(inside & (hole[places[:, 1], places[:, 0]] > 0))
    return points[hits[0]] if hits.size else None


def _swaps_colours(image: Rgb, hidden: Grey, side: Side, far: Vector) -> bool:
    """Return whether the line continues past its far end with its two colours exchanged, as in a chessboard."""
    away = far - np.arange(2, _BEYOND_PX)[:, None] * side.into
    height, width = hidden.shape
    away = away[((away >= 0) & (away <= (width - 1, height - 1))).all(axis=1)]
    if not len(away):
        return False
    places = np.rint(away).astype(np.intp)
    normal = _STEP_PX * normal_of(side.into)
    beyond = np.concatenate([sample(image, away - normal), sample(image, away + normal)], axis=1)
    same = np.abs(beyond - side.colours).max(axis=1) <= min(_ALIKE, _SWAPPED * np.abs(side.step).max())
    swapped = same & (hidden[places[:, 1], places[:, 0]] == 0)
    runs = np.convolve(swapped, np.ones(_SWAPPED_PX), mode="valid") if len(swapped) >= _SWAPPED_PX else np.zeros(1)
    return bool(runs.max() >= _SWAPPED_PX)


def _rate(one: Side, other: Side) -> float:
    """Return how clearly two sides are one line; 0 if they are not."""
    chord = other.enter - one.enter
    length = float(np.linalg.norm(chord))
    if length < _LEAST_CHORD_PX or min(chord @ one.into, -chord @ other.into) < _TURN * length:
        return 0.0
    offset = max(abs(chord @ normal_of(side.into)) for side in (one, other))
    if offset > max(_LEAST_OFFSET_PX, _OFFSET * length):
        return 0.0
    turned = np.concatenate([other.colours[3:], other.colours[:3]])  # the other side has the opposite direction
    if one.step @ -other.step < _SAME_STEP * max(one.step @ one.step, other.step @ other.step):
        return 0.0
    if np.abs(one.colours - turned).max() > _SAME_COLOUR:
        return 0.0
    return float(min(one.clearness, other.clearness) / (1 + offset))
