"""Adds the fine texture of the surroundings to a fill that was made at a smaller scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

_RADIUS_PX = 3  # radius of the compared patches (7 pixels wide), at the small scale
_CELL_PX = 4  # side of the copied squares, at the small scale
_MAX_SOURCES = 6_000
_DIMENSIONS = 12  # principal components of a patch's 147 numbers
_CHUNK = 256  # rows of distances that fit into the processor's cache: 14 ms instead of 35 with 1,024 rows
_BAND_ROWS = 128


def add_grain(image: Rgb, small_fill: Rgb, hole: Grey, avoid: Grey, seed: int) -> Rgb:
    """Enlarge the fill to the image's size. In the hole's box, add to each cell the detail of the most similar place.

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
    filled = np.asarray(enlarged, np.uint8)
    top, bottom, left, right = _box_of(hole, (height, width))
    for first in range(top, bottom, _BAND_ROWS):  # all bands at once would take 26 bytes a pixel more
        band = slice(first, min(bottom, first + _BAND_ROWS)), slice(left, right)
        maps = _map_sources((height, width), (hole.shape[0], hole.shape[1]), shift, band)
        detail = np.subtract(_move(image, maps), _move(soft, maps), dtype=np.int16)
        filled[band] = np.clip(filled[band] + detail, 0, 255)
    return filled


def _box_of(hole: Grey, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of a small hole in an image of that height and width."""
    x, y, across, down = cv2.boundingRect(hole)
    height, width = hole.shape
    top, bottom = y * size[0] // height, -(-(y + down) * size[0] // height)
    left, right = x * size[1] // width, -(-(x + across) * size[1] // width)
    return top, bottom, left, right


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
    _, axes = np.linalg.eigh(some.T @ some)  # an SVD of `some` gives the same axes in 280 ms instead of 2
    basis = axes[:, : -_DIMENSIONS - 1 : -1].astype(np.float32)
    wanted, known = (wanted - mean) @ basis, (known - mean) @ basis
    norms = (known**2).sum(axis=1)
    chunks = (wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK))
    return np.concatenate([np.argmin(norms - 2 * (chunk @ known.T), axis=1) for chunk in chunks])


def _map_sources(
    size: tuple[int, int], small: tuple[int, int], shift: NDArray[np.intp], band: tuple[slice, slice]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return for each pixel of a band the column and the row to copy from: `shift`, by grid square, in small pixels."""
    cells = [np.arange(full)[part] * few // full // _CELL_PX for full, few, part in zip(size, small, band, strict=True)]
    maps = []
    for axis, (side, small_side) in enumerate(zip(size, small, strict=True)):
        offset = np.rint(shift[..., axis] * (side / small_side)).astype(np.float32)[np.ix_(*cells)]
        here = np.expand_dims(np.arange(side, dtype=np.float32)[band[axis]], 1 - axis)
        maps.append(np.clip(here + offset, 0, side - 1))  # whole numbers, exact in float32 up to 2^24
    rows, columns = maps
    return columns, rows


def _move(image: Rgb, maps: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Rgb:
    """Copy the pixels that the maps name. An index by arrays copies the same values in three times the time."""
    moved = cv2.remap(image, *maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)
