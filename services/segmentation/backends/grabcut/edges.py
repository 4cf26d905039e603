"""Enlarge a small hard mask to the full image, with its edge on the edge of the object.

He, Sun and Tang, "Guided image filtering", 2010 (colour guide, equations 14 and 15); He and Sun, "Fast guided filter",
2015: the linear model is fitted on the small image and evaluated on the full one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from services.segmentation.geometry import Frame
    from shared.image_codec import Grey, Rgb

_RADIUS_SHARE = 0.008  # share of the frame's long side
_SMOOTHNESS = 6.5  # squared grey levels: colour steps well below 2.5 levels are ignored
_SOFTEST, _HARDEST = 0.25, 0.75  # filtered values that become 0 and 255
_TILE_PX = 256
_BYTE = 255
_ROUNDING = 1e-4  # rounding error of box means
_FLAT = 1e-3  # mask differences too small for a byte
_MIDDLE = 0.5
_LEFT, _RIGHT = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]  # the upper triangle of a 3 x 3 matrix


def refine(image: Rgb, frame: Frame, small: Rgb, mask: Grey) -> Grey:
    """Return the mask of the whole image, soft at the edge.

    `small` is the frame's crop of the image, (h, w, 3), and `mask` the hard mask of that crop, (h, w).
    """
    lines = _fit(small.astype(np.float32), (mask > 0).astype(np.float32))
    full = np.zeros(image.shape[:2], np.uint8)
    _evaluate(lines, image[frame.window.slices], full[frame.window.slices])
    return full


def _fit(guide: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (h, w, 4): per pixel, the factors of R, G, B and the constant that fit the mask best."""
    radius = max(2, round(_RADIUS_SHARE * max(wanted.shape)))
    mean_wanted = _mean(wanted, radius)
    lines = np.zeros((*wanted.shape, 4), np.float32)
    lines[..., 3] = wanted
    # Elsewhere the factors are 0 and the constant is the mask value.
    mixed = (mean_wanted > _ROUNDING) & (mean_wanted < 1 - _ROUNDING)
    if mixed.any():
        mean_guide = _mean(guide, radius)
        products = guide[..., _LEFT] * guide[..., _RIGHT]
        centre = mean_guide[mixed]
        covariances = _mean(products, radius)[mixed] - centre[:, _LEFT] * centre[:, _RIGHT]
        cross = _mean(guide * wanted[..., np.newaxis], radius)[mixed] - centre * mean_wanted[mixed][:, np.newaxis]
        factors = _solve(covariances, cross)
        lines[mixed, :3] = factors
        lines[mixed, 3] = mean_wanted[mixed] - np.einsum("ij,ij->i", factors, centre)
    return _mean(lines, radius)


def _solve(covariances: NDArray[np.float32], cross: NDArray[np.float32]) -> NDArray[np.float32]:
    """Solve (covariance + smoothness) x = cross for each row by cofactors: a call of LAPACK for each takes far longer.

    `covariances` (n, 6) holds the upper triangles of the symmetric matrices, `cross` (n, 3) the right sides.
    """
    xx, xy, xz, yy, yz, zz = covariances.T.astype(np.float64)
    xx, yy, zz = xx + _SMOOTHNESS, yy + _SMOOTHNESS, zz + _SMOOTHNESS
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    d, e, f = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    x, y, z = cross.T
    solved = np.stack([a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z], axis=1)
    return np.asarray(solved / (xx * a + xy * b + xz * c)[:, np.newaxis], np.float32)


def _evaluate(lines: NDArray[np.float32], image: Rgb, out: Grey) -> None:
    """Write the soft mask tile by tile, so that a large image needs no large float arrays."""
    height, width = out.shape
    step_x, step_y = lines.shape[1] / width, lines.shape[0] / height
    for rows in _tiles(height):
        for columns in _tiles(width):
            near = lines[_source_of(rows, step_y), _source_of(columns, step_x)]
            if near[..., 3].max() - near[..., 3].min() < _FLAT and np.abs(near[..., :3]).max() < _FLAT / _BYTE:
                out[rows, columns] = _BYTE if near[0, 0, 3] > _MIDDLE else 0  # most tiles of a large image end here
                continue
            to_lines = np.array(
                [
                    [step_x, 0.0, (columns.start + 0.5) * step_x - 0.5],
                    [0.0, step_y, (rows.start + 0.5) * step_y - 0.5],
                ]
            )
            size = columns.stop - columns.start, rows.stop - rows.start
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            local = cv2.warpAffine(lines, to_lines, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            value = np.einsum("ijk,ijk->ij", local[..., :3], image[rows, columns], dtype=np.float32) + local[..., 3]
            sharp = (value - _SOFTEST) * (_BYTE / (_HARDEST - _SOFTEST))
            out[rows, columns] = np.rint(sharp.clip(0, _BYTE))


def _tiles(length: int) -> Iterator[slice]:
    for start in range(0, length, _TILE_PX):
        yield slice(start, min(length, start + _TILE_PX))


def _source_of(tile: slice, step: float) -> slice:
    """Return the small pixels that the interpolation needs for a range of full pixels."""
    return slice(max(0, int(tile.start * step) - 1), math.ceil(tile.stop * step) + 1)


def _mean(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    side = 2 * radius + 1
    return np.asarray(cv2.boxFilter(values, -1, (side, side), borderType=cv2.BORDER_REFLECT))
