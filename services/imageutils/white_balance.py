"""Remove a colour cast from a photo, or set one by hand: three gains in linear light, one look-up table per channel.

Four independent methods estimate the light. If they disagree, the correction is weak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np

from shared.colour import SRGB, to_srgb
from shared.colour_tables import SRGB_TO_LINEAR, apply_table, shrink

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.colour import Colour
    from shared.image_codec import Rgb

    Linear: TypeAlias = NDArray[np.float32]
    """(height, width, 3), R G B in linear light, 0..1."""
    Pixels: TypeAlias = NDArray[np.bool_]
    """(height, width): true where no channel is clipped at either end."""
    Table: TypeAlias = NDArray[np.uint8]
    """(256, 3): the new value for each value of R, G and B."""
    Triple: TypeAlias = NDArray[np.float64]
    """(3,): R, G, B of a light, or the natural logarithms of three gains."""

_MINKOWSKI = 6  # van de Weijer et al. 2007, their best exponent for edges
_CLIPPED = 0.95  # in linear light: a channel above this may be clipped
_BRIGHT_QUANTILE = 0.99
_PCA_TAILS = 0.035  # Cheng et al. 2014: the darkest and the brightest 3.5 %
_GREYEST = 0.001  # Yang et al. 2015: the greyest 0.1 % of the pixels
_MIN_DOUBT = 0.05  # in log chroma: the error of the best single estimate
_FARTHEST_LIGHT = 1.5  # in log chroma, a 2700 K lamp: farther estimates are object colours
# Log R/G and B/G of black bodies of 2300, 2700, 3500, 4500, 6500, 9000, 14000 and 25000 K in linear sRGB: the locus by
# Kim et al. 2002. Lamps, the sun and the sky are near it; light of another colour is rare.
_LOCUS = np.array([
    [1.115, -2.090], [0.874, -1.428], [0.561, -0.790], [0.318, -0.370],
    [0.058, 0.051], [-0.094, 0.301], [-0.220, 0.518], [-0.306, 0.669],
])  # fmt: skip
_PLAUSIBLE, _IMPLAUSIBLE = 0.45, 0.75  # distances from the locus: up to the first a light, from the second a surface
_EDGE_SIGMA_PX = 1.5
_GREY_SIGMA_PX = 0.8
_EPSILON = 1e-4
_THIRDS = np.full(3, 1 / 3, np.float32)
_LUMA = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709
# Log gains at a slider's end. Temperature: R/B grows e-fold (6500 K to 4000 K). Tint: G falls to 0.64 of R and B.
_WARMER = np.array([0.5, 0.0, -0.5])
_MORE_MAGENTA = np.array([0.15, -0.3, 0.15])


def balance_auto(image: Rgb, strength: float = 1.0, colour: Colour = SRGB) -> Rgb:
    """Remove the estimated cast. `image` is uint8 (h, w, 3); strength 0 changes nothing, 1 corrects fully."""
    return apply_table(image, auto_table(image, strength, colour))


def auto_table(image: Rgb, strength: float = 1.0, colour: Colour = SRGB, temperature: float = 0.0) -> Table:
    """Return the table of `balance_auto`; a small copy of the image (`colour_tables.shrink`) gives the same table.

    `colour` is the meaning of the values: the cast is estimated from them in sRGB. `temperature` is that of
    `balance_manual`, added to the correction.
    """
    small = shrink(image)
    cast = estimate_cast(to_srgb(small, colour)) if strength else np.zeros(3)
    return _scale_gains(small, temperature * _WARMER / 100 - strength * cast)


def auto_gains(image: Rgb, colour: Colour = SRGB) -> Triple:
    """Return the gains of `balance_auto` at full strength, in linear light."""
    small = shrink(image)
    return _keep_luminance(small, -estimate_cast(to_srgb(small, colour)))


def balance_manual(image: Rgb, temperature: float, tint: float, strength: float = 1.0) -> Rgb:
    """Apply temperature (positive is warmer) and tint (positive is more magenta), both -100..100."""
    log_gains = strength * (temperature * _WARMER + tint * _MORE_MAGENTA) / 100
    return apply_table(image, _scale_gains(shrink(image), log_gains))


def estimate_cast(image: Rgb) -> Triple:
    """Return the natural logarithm of the light's R, G and B with G at 0; all zero without a usable estimate.

    The median m of four estimates is shrunk by |m| / (|m| + spread + 0.05), so that a balanced photo, or one on which
    the methods disagree, hardly changes. It is also shrunk by its distance from the colours of real lights.
    """
    linear = _to_linear(shrink(image))
    exposed = (_brightest(linear) < _CLIPPED) & (_darkest(linear) > _EPSILON)
    if not exposed.any():
        return np.zeros(3)
    lights = [find(linear, exposed) for find in (_grey_edge, _unclipped_max, _bright_dark_axis, _grey_pixels)]
    votes = np.array([np.log(light / light[1]) for light in lights if light.min() > _EPSILON * light.max() > 0])
    if not len(votes):
        return np.zeros(3)
    raw = np.median(votes, axis=0)
    median = np.clip(raw, -_FARTHEST_LIGHT, _FARTHEST_LIGHT)
    spread = float(np.mean(np.linalg.norm(votes - median, axis=1)))
    size = float(np.linalg.norm(median))
    return np.asarray(_plausibility(raw) * median * size / (size + spread + _MIN_DOUBT))


def _plausibility(light: Triple) -> float:
    """Return 1 for a light near the locus of black bodies, falling to 0 for the colour of a surface."""
    point = light[[0, 2]] - light[1]
    starts, steps = _LOCUS[:-1], np.diff(_LOCUS, axis=0)
    along = ((point - starts) * steps).sum(axis=1) / (steps**2).sum(axis=1)
    nearest = starts + along.clip(0, 1)[:, None] * steps
    distance = float(np.linalg.norm(point - nearest, axis=1).min())
    return float(np.clip((_IMPLAUSIBLE - distance) / (_IMPLAUSIBLE - _PLAUSIBLE), 0, 1))


def _grey_edge(linear: Linear, exposed: Pixels) -> Triple:
    """Return the colour of the edges.

    J. van de Weijer, T. Gevers, A. Gijsenij, "Edge-Based Color Constancy", IEEE TIP 2007.
    """
    smooth = cv2.GaussianBlur(linear, (0, 0), _EDGE_SIGMA_PX)
    squared = cv2.Scharr(smooth, cv2.CV_32F, 1, 0) ** 2 + cv2.Scharr(smooth, cv2.CV_32F, 0, 1) ** 2
    return _mean(squared[exposed] ** (_MINKOWSKI // 2)) ** (1 / _MINKOWSKI)


def _unclipped_max(linear: Linear, exposed: Pixels) -> Triple:
    """Return the brightest value of each channel.

    B. Funt, L. Shi, "The Rehabilitation of MaxRGB", CIC 2010.
    """
    return np.quantile(linear[exposed].T, _BRIGHT_QUANTILE, axis=1).astype(np.float64)


def _bright_dark_axis(linear: Linear, exposed: Pixels) -> Triple:
    """Return the main axis of the brightest and darkest colours.

    D. Cheng, D. Prasad, M. Brown, "Illuminant Estimation for Color Constancy: Why Spatial-Domain Methods Work and the
    Role of the Color Distribution", JOSA A 2014.
    """
    colours = linear[exposed]
    along = colours @ _mean(colours).astype(np.float32)
    low, high = np.quantile(along, (_PCA_TAILS, 1 - _PCA_TAILS))
    tails = colours[(along <= low) | (along >= high)].astype(np.float64)
    axis = np.linalg.eigh(tails.T @ tails)[1][:, -1]
    return np.asarray(axis * np.sign(axis.sum()))


def _grey_pixels(linear: Linear, exposed: Pixels) -> Triple:
    """Return the mean of the likely grey pixels: those with channels that vary alike.

    K. Yang, S. Gao, Y. Li, "Efficient Illuminant Estimation for Color Constancy Using Grey Pixels", CVPR 2015.
    """
    logs = cv2.log(np.maximum(linear, _EPSILON))
    contrast = np.abs(cv2.Laplacian(cv2.GaussianBlur(logs, (0, 0), _GREY_SIGMA_PX), cv2.CV_32F))
    varied = exposed & (_darkest(contrast) > _EPSILON)
    colours, contrasts = linear[varied], contrast[varied]
    mean = contrasts @ _THIRDS
    deviation = np.sqrt(np.maximum(contrasts**2 @ _THIRDS - mean**2, 0))
    colourfulness = deviation / (mean * (colours @ _THIRDS))
    count = min(len(colours), max(1, round(_GREYEST * exposed.size)))
    return _mean(colours[np.argsort(colourfulness)[:count]])


def _mean(colours: NDArray[np.floating]) -> Triple:
    return colours.mean(axis=0, dtype=np.float64) if len(colours) else np.zeros(3)


def _brightest(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cv2.max(cv2.max(pixels[..., 0], pixels[..., 1]), pixels[..., 2]))


def _darkest(linear: Linear) -> NDArray[np.float32]:
    return np.asarray(cv2.min(cv2.min(linear[..., 0], linear[..., 1]), linear[..., 2]))


def _scale_gains(small: Rgb, log_gains: Triple) -> Table:
    """Return the table that multiplies the channels in linear light and keeps the mean luminance."""
    return _to_srgb(SRGB_TO_LINEAR[:, None] * _keep_luminance(small, log_gains))


def _keep_luminance(small: Rgb, log_gains: Triple) -> Triple:
    gains = np.exp(log_gains)
    mean = _mean(_to_linear(small).reshape(-1, 3))
    luminance = float(_LUMA @ (gains * mean))
    if luminance > 0:
        gains *= float(_LUMA @ mean) / luminance
    return gains


def _to_linear(image: Rgb) -> Linear:
    return np.asarray(cv2.LUT(image, SRGB_TO_LINEAR.astype(np.float32)))


def _to_srgb(linear: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Encode as sRGB (IEC 61966-2-1), clipped to 0..1."""
    bounded = np.clip(linear, 0, 1)
    encoded = np.where(bounded <= 0.0031308, 12.92 * bounded, 1.055 * bounded ** (1 / 2.4) - 0.055)  # noqa: PLR2004
    return np.asarray(np.rint(encoded * 255), np.uint8)
