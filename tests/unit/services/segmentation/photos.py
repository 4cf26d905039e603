"""Photos and shapes for the tests of the segmentation service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from services.segmentation.settings import Settings
from shared.image_codec import decode_photo

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

ROOT = Path(__file__).parents[4]
MODELS = ROOT / ".models"
WITH_WEIGHTS = Settings(model_dir=MODELS)
WITHOUT_WEIGHTS = Settings(model_dir=ROOT / "no-such-folder")

needs_weights = pytest.mark.skipif(
    not (MODELS / "u2netp" / "u2netp.onnx").is_file(), reason="the weights of u2netp are not installed"
)


def photo(name: str) -> Rgb:
    """Return one of the sample photos."""
    return decode_photo((ROOT / f"services/gateway/static/samples/{name}.jpg").read_bytes()).rgb


def ellipse(image: Rgb, x: int, y: int, radius_x: int, radius_y: int) -> Grey:
    """Return a filled ellipse as a mask of the picture's size."""
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.ellipse(mask, (x, y), (radius_x, radius_y), 0, 0, 360, 255, -1)
    return mask


def ball(width: int = 240, height: int = 180) -> tuple[Rgb, Grey]:
    """Return a red ball on a grainy grey-green ground, and its true mask."""
    grain = np.random.default_rng(7).integers(0, 24, (height, width, 3), np.uint8)
    picture = np.full((height, width, 3), (90, 110, 90), np.uint8) + grain
    truth = ellipse(picture, width // 2, height // 2, height // 4, height // 4)
    picture[truth > 0] = np.array([190, 30, 40], np.uint8) + grain[truth > 0]
    return picture, truth


class LocalFeatures:
    """A feature cache of one image in memory; `computed` counts the calls of `compute`."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        self.computed = 0

    def __call__(self, name: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """See CachedFeatures."""
        if name not in self.arrays:
            self.computed += 1
            self.arrays[name] = compute()
            self.arrays[name].setflags(write=False)
        return self.arrays[name]


def never_cancel() -> None:
    """Checkpoint of a request without a cancel."""
