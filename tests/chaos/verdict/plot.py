"""A line chart in a PNG, drawn with Pillow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 1200, 640
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 50, 950, 580
_INK, _GRID, _PAPER = "#222222", "#dddddd", "#ffffff"
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f")


def draw(title: str, series: dict[str, list[tuple[float, float]]], unit: str, file: Path) -> None:
    """Draw one line for each name, over minutes; the label shows its last value."""
    image = Image.new("RGB", SIZE, _PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    minutes = max(x for points in series.values() for x, _ in points)
    top = 50 * math.ceil(1.02 * max(y for points in series.values() for _, y in points) / 50)
    pen.text((_LEFT, 16), title, _INK, font)
    for tenth in range(11):
        y = _BOTTOM - (_BOTTOM - _TOP) * tenth / 10
        x = _LEFT + (_RIGHT - _LEFT) * tenth / 10
        pen.line((_LEFT, y, _RIGHT, y), _GRID)
        pen.line((x, _BOTTOM, x, _BOTTOM + 5), _INK)
        pen.text((_LEFT - 8, y), f"{top * tenth / 10:.0f}", _INK, font, anchor="rm")
        pen.text((x, _BOTTOM + 10), f"{minutes * tenth / 10:.{0 if minutes >= 10 else 1}f}", _INK, font, anchor="mt")
    pen.line((_LEFT, _TOP, _LEFT, _BOTTOM, _RIGHT, _BOTTOM), _INK)
    pen.text((_RIGHT, _BOTTOM + 32), "minutes", _INK, font, anchor="rt")
    pen.text((_LEFT, _TOP - 6), unit, _INK, font, anchor="rb")
    by_height = sorted(series, key=lambda name: -series[name][-1][1])
    below = 0.0
    for place, name in enumerate(by_height):
        colour = _COLOURS[place % len(_COLOURS)]
        points = [
            (_LEFT + (_RIGHT - _LEFT) * x / minutes, _BOTTOM - (_BOTTOM - _TOP) * y / top) for x, y in series[name]
        ]
        pen.line(points, colour, 2)
        below = max(points[-1][1], below + 20)  # labels must not overlap
        pen.line((*points[-1], _RIGHT + 12, below), colour)
        pen.text((_RIGHT + 16, below), f"{name}  {series[name][-1][1]:.0f} {unit}", colour, font, anchor="lm")
    image.save(file, optimize=True)
