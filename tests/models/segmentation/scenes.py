"""Scenes of simple shapes with known masks, like those in the training of the tiny FastSAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation.backend import Click, Prompt
from services.segmentation.geometry import Box, bounding_box

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image_codec import Grey, Rgb


@dataclass(frozen=True, eq=False)
class Shape:
    """One object: its true mask, 255 inside."""

    mask: Grey

    @property
    def middle(self) -> tuple[float, float]:
        """The pixel that is farthest from the edge."""
        depth = cv2.distanceTransform(self.mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        _, _, _, (x, y) = cv2.minMaxLoc(depth)
        return float(x), float(y)

    @property
    def box(self) -> Box:
        """Its bounding box."""
        box = bounding_box(self.mask)
        assert box is not None
        return box

    @property
    def prompts(self) -> dict[str, Prompt]:
        """Every way of pointing at it."""
        return {
            "point": Prompt(points=(Click(*self.middle, positive=True),)),
            "box": Prompt(box=self.box),
            "guidance": Prompt(guidance=np.roll(self.mask, 3, axis=1)),
        }


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its shapes."""

    image: Rgb
    shapes: tuple[Shape, ...]


def scene(seed: int, width: int = 320, height: int = 240) -> Scene:
    """Return four shapes, one in each quarter, in colours far from the grainy ground's."""
    chance = np.random.default_rng(seed)
    ground = chance.integers(60, 196, 3)
    image = (ground + chance.integers(-8, 9, (height, width, 3))).clip(0, 255).astype(np.uint8)
    shapes = []
    for quarter in range(4):
        centre = np.array([(quarter % 2 + 0.5) * width / 2, (quarter // 2 + 0.5) * height / 2])
        mask = _shape(
            chance, centre + chance.uniform(-6, 6, 2), chance.uniform(0.26, 0.38) * height / 2, image.shape[:2]
        )
        colour = (ground + 128 + chance.integers(-40, 41, 3)) % 256
        image[mask > 0] = (colour + chance.integers(-8, 9, (np.count_nonzero(mask), 3))).clip(0, 255)
        shapes.append(Shape(mask))
    return Scene(image, tuple(shapes))


def scenes(number: int) -> Iterator[Scene]:
    """Yield so many different scenes of different sizes, the same every time."""
    sizes = ((320, 240), (240, 320), (400, 300), (256, 256), (480, 270))
    for seed in range(number):
        yield scene(seed, *sizes[seed % len(sizes)])


def _shape(chance: np.random.Generator, centre: np.ndarray, radius: float, size: tuple[int, int]) -> Grey:
    mask = np.zeros(size, np.uint8)
    kind, turn = chance.integers(3), chance.uniform(0, 180)
    if kind == 0:
        axes = (round(radius), round(radius * chance.uniform(0.6, 1)))
        cv2.ellipse(mask, centre.round().astype(int).tolist(), axes, turn, 0, 360, 255, -1)
        return mask
    corners = {1: (45, 135, 225, 315), 2: (90, 210, 330)}[int(kind)]
    angles = np.deg2rad(np.array(corners) + turn)
    points = centre + 1.1 * radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 255)
    return mask
