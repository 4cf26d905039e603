"""The user's drawing as GrabCut labels, and as a few points for the choice of a view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from services.segmentation.backend import Click
from services.segmentation.backends.grabcut.scene import components
from services.segmentation.backends.grabcut.trimap import fill_disc
from services.segmentation.geometry import Frame, bounding_box, enclosing_box
from services.segmentation.masks import binary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from services.segmentation.geometry import Box
    from shared.image_codec import Grey
    from shared.messages import Stroke

_DOT_SHARE = 0.01  # radius of a click, as a share of the frame's long side
_SAMPLED_PX = 512  # size at which strokes and masks are converted to points
_SAMPLES = 12  # points per kind: enough to compare views, few enough to do it quickly
_LINE_SHARE = 0.02  # share of the image's long side: a stroke that is shorter, or shorter than wide, is a click
_STROKE_EXTENT = 1.5  # sizes of the stroke: half the largest size that its object is expected to have
_FAR_PX = 30_000  # OpenCV does not draw lines that begin farther outside
_CORE = 0.5  # share of a painted area's half-width that is sure; the rim is often inexact


class Hints(Protocol):
    """A drawing of the user."""

    @property
    def clicks(self) -> tuple[Click, ...]:
        """Points of the drawing, for the choice of a view."""

    @property
    def first(self) -> Click | None:
        """The first click on the object; None for strokes and paintings, which have no order of clicks."""

    @property
    def extent_px(self) -> float:
        """The object's size in image pixels if the drawing shows it, else 0."""

    def write(self, labels: Grey, frame: Frame) -> None:
        """Write the drawing into the labels (cv2.GC_*) of a frame, in place."""


@dataclass(frozen=True, slots=True)
class Clicks:
    """Single points; each becomes a small disc of sure labels."""

    clicks: tuple[Click, ...]
    extent_px: float = 0.0

    @property
    def first(self) -> Click | None:
        """See Hints."""
        return next((click for click in self.clicks if click.positive), None)

    def write(self, labels: Grey, frame: Frame) -> None:
        """Label the discs as sure object or sure background."""
        radius = _DOT_SHARE * max(labels.shape)
        for click in self.clicks:
            x, y = frame.to_frame(click.x, click.y)
            fill_disc(labels, x, y, radius, cv2.GC_FGD if click.positive else cv2.GC_BGD)


class Strokes:
    """Lines drawn by hand; all pixels under them become sure labels."""

    first = None

    def __init__(self, strokes: Sequence[Stroke], limits: Box) -> None:
        self._strokes = strokes
        drawn = [point for stroke in strokes if stroke.positive for point in stroke.points]
        length_px = min(enclosing_box(drawn).long_side, limits.long_side) if drawn else 0  # points may lie anywhere
        width_px = max((2 * stroke.radius_px for stroke in strokes if stroke.positive), default=0.0)
        is_line = length_px > max(width_px, _LINE_SHARE * limits.long_side)
        self.extent_px = _STROKE_EXTENT * length_px if is_line else 0.0
        frame = Frame.fit(limits, _SAMPLED_PX)
        labels = np.full((frame.height, frame.width), cv2.GC_PR_BGD, np.uint8)
        self.write(labels, frame)
        self.clicks = (
            *_sample(labels == cv2.GC_FGD, frame, positive=True),
            *_sample(labels == cv2.GC_BGD, frame, positive=False),
        )

    def write(self, labels: Grey, frame: Frame) -> None:
        """Label the lines as sure object or sure background; later strokes win."""
        for stroke in self._strokes:
            value = cv2.GC_FGD if stroke.positive else cv2.GC_BGD
            corners = np.rint([frame.to_frame(x, y) for x, y in stroke.points])
            corners = corners.clip(-_FAR_PX, _FAR_PX).astype(np.int32)
            width = max(1, round(2 * stroke.radius_px * frame.scale))
            cv2.polylines(labels, [corners], isClosed=False, color=value, thickness=width)


class Painting:
    """An area painted over the object, often past its edge: the core is sure, the rim is not."""

    first = None

    def __init__(self, area: Grey, limits: Box) -> None:
        self._area = area
        box = bounding_box(area)
        self.extent_px = float(box.long_side) if box else 0.0
        frame = Frame.fit(limits, _SAMPLED_PX)
        self.clicks = tuple(_sample(self._core(frame), frame, positive=True))

    def write(self, labels: Grey, frame: Frame) -> None:
        """Label the core as sure object, and leave the rim to GrabCut."""
        labels[(self._painted_area(frame) > 0) & (labels == cv2.GC_BGD)] = cv2.GC_PR_BGD
        labels[self._core(frame)] = cv2.GC_FGD

    def _painted_area(self, frame: Frame) -> Grey:
        return binary(frame.crop(self._area) > 0)

    def _core(self, frame: Frame) -> Grey:
        """Return the inner half of each painted part, so that thin parts and rings have a core too."""
        area = self._painted_area(frame)
        depth = np.asarray(cv2.distanceTransform(area, cv2.DIST_L2, cv2.DIST_MASK_5), np.float32)
        parts = components(area > 0)
        deepest = np.zeros(parts.max() + 1, np.float32)
        np.maximum.at(deepest, parts, depth)
        return np.asarray((area > 0) & (depth >= _CORE * deepest[parts]))


def _sample(area: Grey, frame: Frame, *, positive: bool) -> Iterable[Click]:
    """Yield points of the image, spread evenly (in reading order) over an area of a frame."""
    rows, columns = np.nonzero(area)
    if not rows.size:
        return
    step = max(1, rows.size // _SAMPLES)
    for row, column in zip(rows[step // 2 :: step][:_SAMPLES], columns[step // 2 :: step][:_SAMPLES], strict=True):
        x = frame.window.x0 + (int(column) + 0.5) * frame.window.width / frame.width
        y = frame.window.y0 + (int(row) + 0.5) * frame.window.height / frame.height
        yield Click(x, y, positive)
