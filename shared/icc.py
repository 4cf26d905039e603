"""Builds RGB profiles from chromaticities and a transfer curve (ICC.1:2004-10), for files that state only those."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Matrix = Sequence[Sequence[float]]
    Pair = tuple[float, float]

D65 = (0.3127, 0.3290)
SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_D50 = (0.9642, 1.0, 0.8249)
_CURVE_ENTRIES = 1024
# Bradford: cone responses of XYZ (ICC.1:2004-10, annex E), and its inverse.
_TO_CONES = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_FROM_CONES = (
    (0.9869929, -0.1470543, 0.1599627), (0.4323053, 0.5183603, 0.0492912), (-0.0085287, 0.0400428, 0.9684867),
)  # fmt: skip


def build_profile(primaries: tuple[Pair, Pair, Pair], white: Pair, to_linear: Callable[[float], float]) -> bytes:
    """Return the profile of a display: `primaries` and `white` as CIE x and y, the curve from 0..1 to 0..1.

    Raises ValueError if the primaries span no colours.
    """
    columns = _adapt_to_d50(_scale_to_white(primaries, white), _xyz(white))
    light = (to_linear(step / (_CURVE_ENTRIES - 1)) for step in range(_CURVE_ENTRIES))
    curve = [round(65535 * min(1.0, max(0.0, value))) for value in light]
    bent = b"curv" + bytes(4) + struct.pack(f">I{_CURVE_ENTRIES}H", _CURVE_ENTRIES, *curve)
    text = b"from chromaticities"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(1 + 12 + 67),
        b"cprt": b"text" + bytes(4) + b"no copyright\0",
        b"wtpt": _point(_D50),
        **{name: _point(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), bent),
    }
    return _assemble(tags)


def _assemble(tags: dict[bytes, bytes]) -> bytes:
    table, body, places = b"", b"", dict[bytes, int]()
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        if content not in places:  # the three curves are one
            places[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, places[content], len(content))
    size = start + len(body)
    head = struct.pack(">IIII4s4s", size, 0, 0x02400000, 0x6D6E7472, b"RGB ", b"XYZ ")
    head += (
        struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + struct.pack(">3i", *map(_to_s15fixed16, _D50))
    )
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _point(xyz: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *map(_to_s15fixed16, xyz))


def _to_s15fixed16(value: float) -> int:
    return round(value * 65536)


def _xyz(point: Pair) -> tuple[float, float, float]:
    x, y = point
    if y <= 0:
        raise ValueError("a chromaticity without light")
    return x / y, 1.0, (1 - x - y) / y


def _scale_to_white(primaries: tuple[Pair, Pair, Pair], white: Pair) -> list[tuple[float, ...]]:
    """Return X, Y and Z of red, green and blue, scaled so that their sum is white."""
    red, green, blue = (_xyz(point) for point in primaries)
    columns = list(zip(red, green, blue, strict=True))
    target = _xyz(white)
    whole = _determinant(columns)
    if abs(whole) < 1e-6:  # noqa: PLR2004
        raise ValueError("primaries on one line")
    amounts = [
        _determinant([[*row[:at], target[number], *row[at + 1 :]] for number, row in enumerate(columns)]) / whole
        for at in range(3)
    ]
    return [tuple(amount * part for part in point) for amount, point in zip(amounts, (red, green, blue), strict=True)]


def _adapt_to_d50(colours: list[tuple[float, ...]], white: Sequence[float]) -> list[tuple[float, ...]]:
    """Adapt colours from their white to D50, the white of profiles."""
    before, after = _times(_TO_CONES, white), _times(_TO_CONES, _D50)
    gains = [new / old for new, old in zip(after, before, strict=True)]
    cones = [_times(_TO_CONES, colour) for colour in colours]
    return [_times(_FROM_CONES, [gain * cone for gain, cone in zip(gains, each, strict=True)]) for each in cones]


def _times(matrix: Matrix, vector: Sequence[float]) -> tuple[float, ...]:
    return tuple(sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)


def _determinant(rows: Matrix) -> float:
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
