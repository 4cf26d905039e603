"""Adds the fine texture of the surroundings to a fill that was made at a smaller scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

_RADIUS_PX = 3  # of the compared patches, at the small scale
_CELL_PX = 4  # of the copied squares, at the small scale
_MAX_SOURCES = 6_000
_DIMENSIONS = 12  # of a patch's 147 numbers
_CHUNK = 256  # rows of distances that stay in the cache: 14 ms instead of 35 at 1,024 rows
_BAND_ROWS = 128


def add_grain(image: Rgb, small_fill: Rgb, hole: Grey, avoid: Grey, seed: int) -> Rgb:
    """Enlarge the fill to the image's size. In the hole, add to each cell the detail of the most similar place.

    `hole` and `avoid` have the fill's size. Detail comes from places where both are 0; without any, the fill is only
    enlarged. Example-based super-resolution (Freeman, Jones, Pasztor 2002), in one pass.
    """
    height, width = image.shape[:2]
    enlarged = cv2.resize(small_fill, (width, height), interpolation=cv2.INTER_CUBIC)
    small = np.asarray(cv2.resize(image, hole.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    sources = _draw_sources(hole | avoid, seed)
    if len(sources) == 0:
        return np.asarray(enlarged, np.uint8)
    cells = _grid_cells(hole.shape)
    needed = cv2.dilate(hole, np.ones((2 * _CELL_PX + 1,) * 2, np.uint8))[cells[..., 0], cells[..., 1]] > 0
    shift = np.zeros_like(cells)
    nearest = _find_nearest(_extract_patches(small_fill, cells[needed]), _extract_patches(small, sources))
    shift[needed] = sources[nearest] - cells[needed]
    soft = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    detail = np.subtract(image, soft, dtype=np.int16)
    filled = np.asarray(enlarged, np.uint8)
    for top in range(0, height, _BAND_ROWS):  # the whole at once would take 20 bytes a pixel more
        rows = slice(top, top + _BAND_ROWS)
        filled[rows] = np.clip(filled[rows] + _shift_detail(detail, shift, hole.shape, rows), 0, 255)
    return filled


def _draw_sources(forbidden: Grey, seed: int) -> NDArray[np.intp]:
    """Draw places (row, column). Their patches, and a pixel more, are outside the hole and inside the image."""
    patch = np.ones((2 * _RADIUS_PX + 3,) * 2, np.uint8)
    places = np.argwhere(cv2.dilate(forbidden, patch, borderType=cv2.BORDER_CONSTANT, borderValue=255) == 0)
    if len(places) <= _MAX_SOURCES:
        return places
    return np.random.default_rng(seed).choice(places, _MAX_SOURCES, replace=False)


def _grid_cells(shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the centres (row, column) of a grid of squares."""
    rows, columns = (np.minimum(np.arange(0, side, _CELL_PX) + _CELL_PX // 2, side - 1) for side in shape)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)


def _extract_patches(image: Rgb, places: NDArray[np.intp]) -> NDArray[np.float32]:
    padded = cv2.copyMakeBorder(image, *(_RADIUS_PX,) * 4, cv2.BORDER_REFLECT_101)
    side = 2 * _RADIUS_PX + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1))
    return windows[places[:, 0], places[:, 1]].reshape(len(places), -1).astype(np.float32)


def _find_nearest(wanted: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return for each wanted patch the index of the most similar known one, by distance of principal components."""
    mean = known.mean(axis=0)
    some = (known - mean)[:: max(1, len(known) // 2000)].astype(np.float64)
    _, axes = np.linalg.eigh(some.T @ some)  # the same axes by an SVD of `some` take 280 ms instead of 2
    basis = axes[:, : -_DIMENSIONS - 1 : -1].astype(np.float32)
    wanted, known = (wanted - mean) @ basis, (known - mean) @ basis
    norms = (known**2).sum(axis=1)
    chunks = (wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK))
    return np.concatenate([np.argmin(norms - 2 * (chunk @ known.T), axis=1) for chunk in chunks])


def _shift_detail(
    detail: NDArray[np.int16], shift: NDArray[np.intp], small: tuple[int, ...], band: slice = slice(None)
) -> NDArray[np.int16]:
    """For each grid square in a band of rows, copy the detail that lies `shift` small pixels away."""
    maps = []
    for axis, (side, small_side) in enumerate(zip(detail.shape, small, strict=False)):
        scale = side / small_side
        at = [np.arange(full) * part // full // _CELL_PX for full, part in zip(detail.shape, small, strict=False)]
        offset = np.rint(shift[..., axis] * scale).astype(np.float32)[np.ix_(at[0][band], at[1])]
        along = np.arange(side, dtype=np.float32)
        here = along[band].reshape(-1, 1) if axis == 0 else along.reshape(1, -1)
        maps.append(np.clip(here + offset, 0, side - 1))  # whole numbers, exact in float32 up to 2^24
    rows, columns = maps
    # cv2.remap copies the same values as an index by arrays does, in a third of the time.
    moved = cv2.remap(detail, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.int16)
