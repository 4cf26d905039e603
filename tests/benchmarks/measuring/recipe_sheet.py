"""A contact sheet of one photo's removals, a column for each recipe: shown pictures above, the result below."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw

from services.a100worker.backend import RemovalInputs
from services.a100worker.backends.qwen.recipes.choice import RECIPES
from services.a100worker.cancel_flag import CancelFlag
from shared.image_codec import decode_mask, decode_photo
from shared.messages import Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from services.a100worker.backend import Preview
    from services.a100worker.backends.qwen.engine import Qwen
    from services.a100worker.backends.qwen.recipes.recipe import Recipe
    from shared.image_codec import Rgb

_HEIGHT_PX = 384  # of each picture in the sheet
_MARGIN_PX = 8
_WORDS_PX = 120
_LETTERS = 60  # a line


class _NoReport:
    """Ignores the steps."""

    def __init__(self) -> None:
        self.cancel_flag = CancelFlag()

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """Do nothing."""


def usable(engine: Qwen) -> list[Recipe]:
    """Return the recipes of removals that the engine's volume can serve."""
    own = engine.recipes[Task.REMOVAL]
    stock = [recipe for recipe in RECIPES if recipe.task is Task.REMOVAL and not recipe.adapter]
    return [own, *(recipe for recipe in stock if recipe.name != own.name)] if own.adapter else stock


def draw_sheet(engine: Qwen, photos: Sequence[tuple[Path, Path]], steps: int, seed: int = 7) -> Rgb:
    """Paint each photo, with its mask, by each recipe; a row for each photo."""
    rows = [_row(engine, decode_photo(photo.read_bytes()).rgb, mask, steps, seed) for photo, mask in photos]
    return _stack(rows, axis=0)


def _row(engine: Qwen, image: Rgb, mask: Path, steps: int, seed: int) -> Rgb:
    height, width = image.shape[:2]
    marked = cv2.resize(decode_mask(mask.read_bytes()), (width, height), interpolation=cv2.INTER_NEAREST)
    job = RemovalInputs(image=image, mask=np.asarray(marked, np.uint8), steps=steps, seed=seed, debug=True)
    own, columns = engine.recipes[Task.REMOVAL], []
    try:
        for recipe in usable(engine):
            engine.recipes[Task.REMOVAL] = recipe
            edit = engine.remove(job, _NoReport())
            shown = [_fit(picture) for label, picture in edit.conditions if label.startswith("window_1_")]
            columns.append(_stack([_caption(recipe), _stack(shown, axis=1), _fit(edit.image)], axis=0))
    finally:
        engine.recipes[Task.REMOVAL] = own
    return _stack([_fit(image), *columns], axis=1)


def _fit(picture: Rgb) -> Rgb:
    scale = _HEIGHT_PX / picture.shape[0]
    size = max(1, round(picture.shape[1] * scale)), _HEIGHT_PX
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _caption(recipe: Recipe) -> Rgb:
    sheet = Image.new("RGB", (_LETTERS * 7, _WORDS_PX), "white")
    lines = [recipe.name, *textwrap.wrap(recipe.words, _LETTERS)]
    ImageDraw.Draw(sheet).multiline_text((4, 4), "\n".join(lines), fill="black")
    return np.asarray(sheet)


def _stack(pictures: Sequence[Rgb], axis: int) -> Rgb:
    """Put pictures below (0) or beside (1) each other, on white."""
    across = 1 - axis
    longest = max(picture.shape[across] for picture in pictures)
    padded = []
    for picture in pictures:
        margins = [(0, 0), (0, 0), (0, 0)]
        margins[across], margins[axis] = (0, longest - picture.shape[across]), (0, _MARGIN_PX)
        padded.append(np.pad(picture, margins, constant_values=255))
    return np.concatenate(padded, axis=axis)
