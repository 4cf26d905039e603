"""How an edit looks by now, small enough to travel inside an event: at most two a second, a JPEG of at most 20 kB."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np

from shared.image_codec import encode_jpeg

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.a100worker.backend import Preview
    from shared.image_codec import Rgb

EVERY_S = 0.5
MAX_BYTES = 20_000
_SIDE_PX = 256
_QUALITIES = (80, 50, 20)


class Previews:
    """Those of one job. Made from what an engine offers with its steps; most of that is not even looked at."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = -np.inf

    def of(self, offered: Preview) -> str | None:
        """Return the picture as a JPEG in base64, or None where the last one is too new."""
        now = self._clock()
        if now < self._next:
            return None
        self._next = now + EVERY_S
        return base64.b64encode(_small_jpeg(offered() if callable(offered) else offered)).decode()


def _small_jpeg(picture: Rgb) -> bytes:
    scale = _SIDE_PX / max(picture.shape[:2])
    while True:
        size = tuple(max(1, round(side * min(1.0, scale))) for side in picture.shape[1::-1])
        small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        for quality in _QUALITIES:
            jpeg = encode_jpeg(small, quality)
            if len(jpeg) <= MAX_BYTES:
                return jpeg
        scale /= 2  # pure noise
