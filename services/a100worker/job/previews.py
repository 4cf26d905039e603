"""Encodes previews of an edit: at most two a second, as JPEG of at most 20 kB, so that they fit into an event."""

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

INTERVAL_S = 0.5
MAX_BYTES = 20_000  # in base64 at most the length of Preview.jpeg_base64 in shared/messages.py: change both
_SIDE_PX = 256
_QUALITIES = (80, 50, 20)


class PreviewEncoder:
    """Encodes the previews of one job, and skips those that come too early."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_at = -np.inf

    def encode(self, preview: Preview) -> str | None:
        """Return the preview as a JPEG in base64, or None within INTERVAL_S of the last one."""
        now = self._clock()
        if now < self._next_at:
            return None
        self._next_at = now + INTERVAL_S
        return base64.b64encode(_encode_small_jpeg(preview() if callable(preview) else preview)).decode()


def _encode_small_jpeg(image: Rgb) -> bytes:
    scale = _SIDE_PX / max(image.shape[:2])
    while True:
        size = tuple(max(1, round(side * min(1.0, scale))) for side in image.shape[1::-1])
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        for quality in _QUALITIES:
            jpeg = encode_jpeg(small, quality)
            if len(jpeg) <= MAX_BYTES:
                return jpeg
        scale /= 2  # only a preview of noise is still too large
