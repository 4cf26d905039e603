"""Convert a request into one kind of prompt, validated and clipped to the image."""

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

PAINTED = 100  # brighter pixels of a guidance mask are painted


def from_request(
    request: MaskRequest, width: int, height: int, guidance: Grey | None, previous: Grey | None = None
) -> Prompt:
    """Convert a request for an image of this size; `guidance` and `previous` are its decoded masks.

    Precedence: points, box, strokes, mask, main subject. Raises BadInput.
    """
    if request.previous is not None and not request.points:
        raise BadInput("The field previous needs points: the last one corrects that mask.")
    if previous is not None and previous.shape != (height, width):
        raise BadInput(f"The previous mask must have the image's size, {width} x {height} pixels.")
    prompt = _choose_prompt(request, width, height, guidance, has_previous=previous is not None)
    return replace(prompt, previous=previous, candidates=request.candidates)


def takes_back(request: MaskRequest) -> bool:
    """Return whether the last point lies on the pixel of an earlier one, which it replaces."""
    pixels = [(int(x), int(y)) for x, y, _ in request.points]
    return pixels[-1:] != [] and pixels[-1] in pixels[:-1]


def check_point(point: tuple[float, float], width: int, height: int) -> Click:
    """Return a point of an image of this size as a positive click. Raises BadInput."""
    return _check_clicks([(*point, 1)], width, height)[0]


def _choose_prompt(
    request: MaskRequest, width: int, height: int, guidance: Grey | None, *, has_previous: bool
) -> Prompt:
    if request.points:
        clicks = _check_clicks(request.points, width, height)
        if not has_previous and not any(click.positive for click in clicks):
            raise BadInput("At least one point must lie on the object.")
        return Prompt(points=clicks)
    if request.box is not None:
        return Prompt(box=_clip_box(request.box, width, height))
    if request.strokes:
        return Prompt(strokes=_check_strokes(request.strokes, width, height))
    if guidance is not None:
        painted = binary(resize_nearest(guidance, width, height) > PAINTED)
        return Prompt(guidance=painted) if painted.any() else Prompt(auto=True)
    if request.auto:
        return Prompt(auto=True)
    raise BadInput("The request has no prompt. Send points, a box, strokes, a mask, or auto.")


def _check_clicks(points: Sequence[tuple[float, float, int]], width: int, height: int) -> tuple[Click, ...]:
    for x, y, _ in points:
        if not (0 <= x < width and 0 <= y < height):  # also true for NaN
            raise BadInput(f"The point {x:g}, {y:g} lies outside the image of {width} x {height} pixels.")
    latest = {(int(x), int(y)): Click(x, y, label == 1) for x, y, label in points}  # the last click on each pixel
    return tuple(latest.values())


def _clip_box(box: messages.Box, width: int, height: int) -> Box:
    """Sort the corners, and round the box to whole pixels inside the image, at least one."""
    (left, right), (top, bottom) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    x0 = min(max(0, int(left)), width - 1)
    y0 = min(max(0, int(top)), height - 1)
    return Box(x0, y0, min(max(int(right), x0 + 1), width), min(max(int(bottom), y0 + 1), height))


def _check_strokes(strokes: list[Stroke], width: int, height: int) -> tuple[Stroke, ...]:
    """Return the strokes; they may cross the image border, but a positive one must have a point inside."""
    inside = (0 <= x < width and 0 <= y < height for stroke in strokes if stroke.positive for x, y in stroke.points)
    if not any(inside):
        raise BadInput("At least one stroke must lie on the object.")
    return tuple(strokes)
