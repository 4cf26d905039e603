"""Bands of rows: work band by band needs no copy of a whole photo."""

from __future__ import annotations

_PIXELS = 1_000_000


def split_rows(shape: tuple[int, ...]) -> list[slice]:
    """Return the rows of an image of this shape (height, width, ...) as bands of a million pixels at most, or a row."""
    rows = max(1, _PIXELS // shape[1])
    return [slice(top, min(top + rows, shape[0])) for top in range(0, shape[0], rows)]
