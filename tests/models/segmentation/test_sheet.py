"""A contact sheet: the masks of each engine in generated scenes, with their overlap with the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw

from services.segmentation.backend import Click, Prompt, load
from services.segmentation.masks import INSIDE, iou
from shared.errors import NothingFound
from shared.messages import Stroke
from tests.models.segmentation.scenes import Scene, scenes
from tests.unit.services.segmentation.photos import LocalFeatures, never_cancel

if TYPE_CHECKING:
    from services.segmentation.backend import Engine
    from services.segmentation.settings import Settings
    from shared.image_codec import Grey, Rgb

SHEET = Path(__file__).parents[3] / "test-artifacts" / "segmentation.png"
_TILE, _LINE, _GAP = (260, 200), 16, 6
_FOUND, _EDGE = np.array([255, 0, 200]), np.array([255, 255, 255])


def run_prompt(seen: Scene) -> dict[str, tuple[Prompt, Grey]]:
    """Prompts on a scene, each with the mask that is meant."""
    one, two, three, four = seen.shapes
    (x, y), (u, v) = three.middle, four.middle
    everything = np.max([shape.mask for shape in seen.shapes], axis=0)
    strokes = (
        Stroke(points=[(x - 8, y - 4), (x + 8, y + 4)], radius_px=3),
        Stroke(points=[(u - 8, v), (u + 8, v)], radius_px=3, positive=False),
    )
    return {
        "a point": (one.prompts["point"], one.mask),
        "two points": (
            Prompt(points=(Click(*one.middle, positive=True), Click(*four.middle, positive=True))),
            np.maximum(one.mask, four.mask),
        ),
        "a box": (two.prompts["box"], two.mask),
        "strokes, one of them not": (Prompt(strokes=strokes), three.mask),
        "painted over": (four.prompts["guidance"], four.mask),
        "nothing": (Prompt(auto=True, candidates=4), everything),
    }


def found_by(engine: Engine, seen: Scene, prompt: Prompt, memory: LocalFeatures) -> Grey:
    """All that an engine offers for a prompt, as one mask."""
    try:
        return np.asarray(
            np.max([each.mask for each in engine.segment(seen.image, prompt, memory, never_cancel)], axis=0)
        )
    except NothingFound:
        return np.zeros(seen.image.shape[:2], np.uint8)


def highlight(image: Rgb, mask: Grey) -> Rgb:
    """Return the image, darker outside the mask, with the mask's outline."""
    share = mask[..., np.newaxis] / 255
    tinted = image * (0.35 + 0.35 * share) + 0.3 * share * _FOUND
    inside = (mask > INSIDE).astype(np.uint8)
    edge = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    tinted[edge] = _EDGE
    return np.asarray(tinted.clip(0, 255).astype(np.uint8))


def draw_sheet(image: Rgb, prompt: Prompt) -> Rgb:
    """Return the image with the prompt on it: green for the object, red for the background."""
    picture = Image.fromarray(image if prompt.guidance is None else highlight(image, prompt.guidance))
    pen = ImageDraw.Draw(picture)
    for click in prompt.points:
        pen.circle((click.x, click.y), 5, fill="lime" if click.positive else "red", outline="black")
    for stroke in prompt.strokes:
        pen.line(stroke.points, fill="lime" if stroke.positive else "red", width=6)
    if prompt.box is not None:
        pen.rectangle(prompt.box, outline="lime", width=3)
    return np.asarray(picture)


def sheet(rows: list[list[tuple[Rgb, str]]]) -> Image.Image:
    """ImageCache in rows, each with a line of text below."""
    across, down = _TILE[0] + _GAP, _TILE[1] + _LINE + _GAP
    page = Image.new("RGB", (across * max(map(len, rows)) + _GAP, down * len(rows) + _GAP), "white")
    pen = ImageDraw.Draw(page)
    for row, tiles in enumerate(rows):
        for column, (pixels, text) in enumerate(tiles):
            tile = Image.fromarray(pixels)
            tile.thumbnail(_TILE)
            page.paste(tile, (_GAP + column * across, _GAP + row * down))
            pen.text((_GAP + column * across, _GAP + row * down + _TILE[1]), text, fill="black")
    return page


def test_the_sheet_shows_right_masks(tiny: Settings) -> None:
    """Look at test-artifacts/segmentation.png; in numbers, nearly every pixel is right."""
    engines = {name: load(name, tiny) for name in ("fastsam", "birefnet")}
    rows, fits = [], []
    for seen in list(scenes(3)):
        memory = LocalFeatures()
        for way, (prompt, meant) in run_prompt(seen).items():
            tiles = [(draw_sheet(seen.image, prompt), way)]
            for name, engine in engines.items():
                mask = found_by(engine, seen, prompt, memory)
                fits.append(iou(mask, meant))
                tiles.append((highlight(seen.image, mask), f"{name}, {fits[-1]:.2f} of the union"))
            rows.append(tiles)
    SHEET.parent.mkdir(exist_ok=True)
    half = -(-len(rows) // 2)
    sheet([left + right for left, right in zip(rows[:half], rows[half:], strict=True)]).save(SHEET, optimize=True)

    assert np.mean(fits) > 0.85
    assert min(fits) > 0.7
