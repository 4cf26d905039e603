"""Fills a hole: carries lines through it first, then searches patches for the rest, or fills it smoothly in text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.imaging.filling import fill_smoothly
from services.a100worker.imaging.structure.bands import carry_lines
from services.a100worker.imaging.structure.lettering import find_lettering
from services.a100worker.imaging.structure.lines import find_lines

if TYPE_CHECKING:
    from services.a100worker.imaging.filling import Search
    from shared.image_codec import Grey, Rgb


def fill_with_structure(image: Rgb, hole: Grey, avoid: Grey, search: Search) -> Rgb:
    """Return the image with the hole filled: bands around lines, the rest by `search`, or smoothly in text."""
    lines = find_lines(image, hole, avoid)
    carried, done = carry_lines(image, hole, avoid, lines)
    rest = hole & ~done
    if not rest.any():
        return carried
    letters = find_lettering(image, hole, avoid)
    if letters is None:
        return search(carried, rest, avoid)
    filled = fill_smoothly(carried, rest, (avoid | letters) & ~done)
    return np.where(rest[..., None] > 0, filled, carried)
