"""From a request on the bus to a prompt that engines can trust: one kind of prompt, inside the picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from services.segmentation.backend import Click, Prompt
from services.segmentation.geometry import Box
from services.segmentation.masks import binary, resize_nearest
from shared.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared import messages
    from shared.image_codec import Grey
    from shared.messages import MaskRequest, Stroke

PAINTED = 100  # brighter pixels of a guidance mask are meant


def from_request(request: MaskRequest, width: int, height: int, guidance: Grey | None) -> Prompt:
    """Choose and check what the request points at, in a picture of this size; `guidance` is its decoded mask.

    Points win over a box, then come strokes, the mask and the main subject. Raises BadInput.
    """
    return replace(_chosen(request, width, height, guidance), candidates=request.candidates)


def _chosen(request: MaskRequest, width: int, height: int, guidance: Grey | None) -> Prompt:
    if request.points:
        return Prompt(points=_clicks(request.points, width, height))
    if request.box is not None:
        return Prompt(box=_clip_box(request.box, width, height))
    if request.strokes:
        return Prompt(strokes=_strokes(request.strokes, width, height))
    if guidance is not None:
        painted = binary(resize_nearest(guidance, width, height) > PAINTED)
        return Prompt(guidance=painted) if painted.any() else Prompt(auto=True)
    if request.auto:
        return Prompt(auto=True)
    raise BadInput("Say what to look for: points, a box, strokes, a mask, or auto.")


def _clicks(points: Sequence[tuple[float, float, int]], width: int, height: int) -> tuple[Click, ...]:
    for x, y, _ in points:
        if not (0 <= x < width and 0 <= y < height):  # not a number is outside, too
            raise BadInput(f"The point {x:g}, {y:g} lies outside the picture of {width} x {height} pixels.")
    clicks = tuple(Click(x, y, label == 1) for x, y, label in points)
    if not any(click.positive for click in clicks):
        raise BadInput("At least one point must lie on the object.")
    return clicks


def _clip_box(box: messages.Box, width: int, height: int) -> Box:
    """Cut a box down to whole pixels of the picture, at least one."""
    x0 = min(max(0, int(box[0])), width - 1)
    y0 = min(max(0, int(box[1])), height - 1)
    return Box(x0, y0, min(max(int(box[2]), x0 + 1), width), min(max(int(box[3]), y0 + 1), height))


def _strokes(strokes: list[Stroke], width: int, height: int) -> tuple[Stroke, ...]:
    """Strokes may run over the picture's border, but one that is meant must begin inside."""
    inside = (0 <= x < width and 0 <= y < height for stroke in strokes if stroke.positive for x, y in stroke.points)
    if not any(inside):
        raise BadInput("At least one stroke must lie on the object.")
    return tuple(strokes)
