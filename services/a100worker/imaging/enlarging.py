"""Enlarges an array band by band, so that the whole enlarged array is never in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_TAPS = np.arange(-1, 3)  # rows that a cubic curve runs through
_SHARPNESS = np.float32(-0.75)  # of the curve (Keys 1981), as in OpenCV


class Enlargement:
    """An array (h, w) or (h, w, n) of float32 at a larger size. Its rows are computed when they are read."""

    def __init__(self, source: Floats, width: int, height: int) -> None:
        """Enlarge the rows; columns follow when they are read. `width` and `height` are in pixels."""
        wide = cv2.resize(source, (width, len(source)), interpolation=cv2.INTER_CUBIC)
        self._wide = np.asarray(wide, np.float32).reshape(len(source), width, *source.shape[2:])
        place = ((np.arange(height) + 0.5) * (len(source) / height) - 0.5).astype(np.float32)
        first = np.floor(place)
        self._rows = np.clip(first.astype(np.intp)[:, None] + _TAPS, 0, len(source) - 1)
        self._weights = _weights(place - first)

    def read(self, start: int, stop: int) -> Floats:
        """Return the rows from `start` to `stop`. Each row is the same in every band."""
        shape = (-1,) + (1,) * (self._wide.ndim - 1)
        total = np.zeros((stop - start, *self._wide.shape[1:]), np.float32)
        for tap in range(len(_TAPS)):
            rows, weights = self._rows[start:stop, tap], self._weights[start:stop, tap]
            total += self._wide[rows] * weights.reshape(shape)
        return total


def _weights(share: Floats) -> Floats:
    """Return the weights (n, 4) of four rows for a place between the second and the third; `share` is 0 to 1."""
    outer = ((_SHARPNESS * (share + 1) - 5 * _SHARPNESS) * (share + 1) + 8 * _SHARPNESS) * (share + 1) - 4 * _SHARPNESS
    inner = ((_SHARPNESS + 2) * share - (_SHARPNESS + 3)) * share**2 + 1
    rest = 1 - share
    next_inner = ((_SHARPNESS + 2) * rest - (_SHARPNESS + 3)) * rest**2 + 1
    return np.stack([outer, inner, next_inner, 1 - outer - inner - next_inner], axis=1).astype(np.float32)
