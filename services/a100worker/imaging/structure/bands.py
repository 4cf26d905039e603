"""Carries lines through a hole: fills a narrow band around each one with its own pixels from both sides.

PatchMatch then fills the areas between the bands. It copies similar patches and does not continue lines: without the
bands, a horizon ends at the hole or has a step in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from services.a100worker.imaging.structure.lines import normal_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from services.a100worker.imaging.structure.lines import Line, Side, Vector
    from shared.image_codec import Grey, Rgb

_HALF_PX = 5  # half the width of a band: the patches that PatchMatch compares (7 pixels) find the whole edge in it
_START_PX = 2  # pixels beside the hole are mixed with the object
_NEAR_PX = 12  # the pixels next to the hole, for the colours of a band
_LEAST_SEEN_PX = 8
_DETAIL, _LEAST_DETAIL = 3.0, 4.0  # mean deviations and grey levels: a larger change is a post or a crossing line
_MEETING = (0.4, 0.2)  # share of the chord at which the texture of one side begins to change into that of the other


class _Strip(NamedTuple):
    """One side's pixels, a row for each pixel away from the hole: the colours next to it, and their changes."""

    colours: NDArray[np.float32]  # (across, 3)
    detail: NDArray[np.float32]  # (along, across, 3)


def carry_lines(image: Rgb, hole: Grey, avoid: Grey, lines: Sequence[Line]) -> tuple[Rgb, Grey]:
    """Return the image with a band around each line filled, and the mask of the filled pixels.

    Where lines cross, the first line of the list is on top.
    """
    filled, done = image.copy(), np.zeros_like(hole)
    hidden = np.asarray(cv2.dilate(hole | avoid, np.ones((3, 3), np.uint8)), np.uint8)
    for line in reversed(lines):
        chord = line.end.enter - line.start.enter
        length = float(np.linalg.norm(chord))
        normal = normal_of(chord / length)
        strips = [_look(image, hidden, side, normal) for side in (line.start, line.end)]
        if strips[0] is not None and strips[1] is not None:
            rows, columns, along, across = _find_band(hole, line.start.enter, chord / length, length)
            filled[rows, columns] = _paint(strips[0], strips[1], along, across, length)
            done[rows, columns] = 255
    return filled, done


def _look(image: Rgb, hidden: Grey, side: Side, normal: Vector) -> _Strip | None:
    """Return the pixels around a line beside the hole; None if too few of them are visible."""
    across = np.copysign(1.0, normal_of(side.into) @ normal) * normal_of(side.into)
    away = np.arange(_START_PX, max(_START_PX + 1, round(side.seen_px)))[:, None, None]
    places = side.enter - away * side.into + np.arange(-_HALF_PX, _HALF_PX + 1)[None, :, None] * across
    columns, rows = places[..., 0].astype(np.float32), places[..., 1].astype(np.float32)
    seen = cv2.remap(hidden, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=255)
    free = np.flatnonzero(~seen.any(axis=1))
    if not free.size:
        return None
    end = free[0] + int(np.argmin(np.append(~seen.any(axis=1), False)[free[0] :]))  # the first run of free rows
    if end - free[0] < _LEAST_SEEN_PX:
        return None
    pixels = cv2.remap(image, columns, rows, cv2.INTER_LINEAR)[free[0] : end].astype(np.float32)
    colours = np.median(pixels[:_NEAR_PX], axis=0)
    change = pixels - colours
    most = _DETAIL * np.median(np.abs(change), axis=0) + _LEAST_DETAIL
    return _Strip(colours.astype(np.float32), np.clip(change, -most, most).astype(np.float32))


def _find_band(
    hole: Grey, start: Vector, direction: Vector, length: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Return the band's pixels in the hole: rows, columns, and their places along and across the line."""
    corners = np.stack([start, start + length * direction])
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - _HALF_PX - 1, 0)
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + _HALF_PX + 2
    rows, columns = np.nonzero(hole[top:bottom, left:right])
    rows, columns = rows + top, columns + left
    offset = np.stack([columns, rows], axis=1) - start
    along, across = offset @ direction, offset @ normal_of(direction)
    inside = (np.abs(across) <= _HALF_PX) & (along > -_HALF_PX) & (along < length + _HALF_PX)
    return rows[inside], columns[inside], along[inside].astype(np.float32), across[inside].astype(np.float32)


def _paint(
    start: _Strip, end: _Strip, along: NDArray[np.float32], across: NDArray[np.float32], length: float
) -> NDArray[np.uint8]:
    """Return the colours of a band's pixels: those of both sides mixed by distance, with their mirrored detail."""
    share = (along / length).clip(0, 1)[:, None]
    colours = (1 - share) * _between(start.colours, across) + share * _between(end.colours, across)
    weight = ((share - _MEETING[0]) / _MEETING[1]).clip(0, 1)
    detail = (1 - weight) * _mirror(start.detail, along, across) + weight * _mirror(end.detail, length - along, across)
    return np.asarray(np.rint((colours + detail).clip(0, 255)), np.uint8)


def _between(colours: NDArray[np.float32], across: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colours at places across the line, interpolated between its pixels."""
    first = np.floor(across).astype(np.intp).clip(-_HALF_PX, _HALF_PX - 1) + _HALF_PX
    part = (across + _HALF_PX - first)[:, None]
    return np.asarray((1 - part) * colours[first] + part * colours[first + 1], np.float32)


def _mirror(
    detail: NDArray[np.float32], depth: NDArray[np.float32], across: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the detail at each depth into the hole, mirrored at its rim, and repeated if it is too short."""
    last = len(detail) - 1
    row = last - np.abs(depth % (2 * last) - last)
    found = cv2.remap(detail, (across + _HALF_PX)[:, None], row[:, None].astype(np.float32), cv2.INTER_LINEAR)
    return np.asarray(found, np.float32).reshape(-1, 3)
