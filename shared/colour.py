"""Describes what an image's values mean: finds the profile that fits them, and converts them between colour spaces.

Pixels stay in the colour space of their file if an RGB result can state that space. It cannot state the profiles for
grey and CMYK, so images with one are converted to sRGB: perceptual, with black point compensation, as browsers do.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from shared import icc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageCms

    Pixels: TypeAlias = NDArray[np.uint8]
    """(height, width, 3), R G B."""

_BAND_PIXELS = 1_000_000
_GREY, _CMYK = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"}), "CMYK"
_RGB = frozenset({"RGB", "RGBA", "RGBX", "P", "PA"})
_SPACES = {"RGB": _RGB, "GRAY": _GREY, "CMYK": frozenset({_CMYK})}
_UNIT = 100_000  # of the numbers in chunks gAMA and cHRM
# Code points of ITU-T H.273: primaries with their white, and transfer curves to linear light.
_CODED_PRIMARIES = {
    1: icc.SRGB,
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_CODED_CURVES: Mapping[int, Callable[[float], float]] = {
    1: lambda value: _linearise(value, 0.081, 4.5, 0.099, 1 / 0.45),
    4: lambda value: value**2.2,
    6: lambda value: _linearise(value, 0.081, 4.5, 0.099, 1 / 0.45),
    8: lambda value: value,
    13: lambda value: _linearise(value, 0.04045, 12.92, 0.055, 2.4),
}


@dataclass(frozen=True, slots=True)
class Colour:
    """The meaning of the pixels' values: an ICC profile, or the chunks of a PNG. Without either it is sRGB."""

    icc: bytes | None = None
    chunks: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def profile(self) -> bytes | None:
        """Return an ICC profile of this meaning; None for sRGB, and for a meaning that no profile here states."""
        if b"cICP" in self.chunks:
            return _coded_profile(*self.chunks[b"cICP"][:2])
        if self.icc is not None or b"sRGB" in self.chunks or b"gAMA" not in self.chunks:
            return self.icc
        return _measured_profile(self.chunks[b"gAMA"], self.chunks.get(b"cHRM"))

    def for_png(self) -> list[tuple[bytes, bytes]]:
        """Return name and body of the chunks that state this meaning in a PNG (PNG specification, 12.3)."""
        profile = [] if self.icc is None else [(b"iCCP", b"icc\0\0" + zlib.compress(self.icc))]
        return [*self.chunks.items(), *profile]


SRGB = Colour()


def fit(mode: str, colour: Colour) -> Colour:
    """Return the meaning of the RGB values of an image of this mode. A profile that does not fit is dropped.

    `mode` is Pillow's. A grey or CMYK picture with a profile becomes sRGB: see `converter`.
    """
    if colour.icc is None:
        return colour if mode in _RGB or mode in _GREY else SRGB
    space = _space(colour.icc)
    if space == "RGB" and mode in _RGB | _GREY:  # browsers read grey as equal R, G and B of the profile
        return colour
    return Colour(chunks=colour.chunks) if space not in _SPACES or mode not in _SPACES[space] else SRGB


def converter(mode: str, colour: Colour) -> Callable[[Image.Image], Image.Image] | None:
    """Return a function from grey or CMYK pixels to sRGB by their profile; None if they need none.

    It takes pictures of the modes L, LA and CMYK, and returns RGB or RGBA.
    """
    space = None if colour.icc is None else _space(colour.icc)
    if colour.icc is None or space not in {"GRAY", "CMYK"} or mode not in _SPACES[space]:
        return None
    return _by_profile(colour.icc, "CMYK" if space == "CMYK" else "L")


def to_srgb(pixels: Pixels, colour: Colour) -> Pixels:
    """Return (h, w, 3) values of this meaning as sRGB, for engines that need sRGB."""
    return to_space(pixels, colour, SRGB)


def to_space(pixels: Pixels, colour: Colour, target: Colour) -> Pixels:
    """Return (h, w, 3) values in the space of `target`; the same array if both mean the same."""
    source, aim = colour.profile, target.profile
    if source == aim:
        return pixels
    from PIL import Image, ImageCms  # noqa: PLC0415

    transform = _transform(source, aim, "RGB")
    import numpy as np  # noqa: PLC0415 (the gateway starts without numpy)

    converted = np.empty_like(pixels)
    rows = max(1, _BAND_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        band = Image.fromarray(np.ascontiguousarray(pixels[top : top + rows]))
        ImageCms.applyTransform(band, transform, inPlace=True)
        converted[top : top + rows] = np.asarray(band)
    return converted


def _by_profile(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image]:
    from PIL import ImageCms  # noqa: PLC0415 (only a few pictures need it)

    transform = _transform(profile, None, mode)

    def convert(band: Image.Image) -> Image.Image:
        alpha = band.getchannel("A") if "A" in band.getbands() else None
        base = band if band.mode == mode else band.convert(mode)
        painted = ImageCms.applyTransform(base, transform)
        if painted is None:
            raise ValueError("no picture")
        if alpha is not None:
            painted.putalpha(alpha)
        return painted

    return convert


@lru_cache(8)
def _transform(source: bytes | None, target: bytes | None, mode: str) -> ImageCms.ImageCmsTransform:
    from PIL import ImageCms  # noqa: PLC0415

    of_source, of_target = (
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB") if data is None else io.BytesIO(data))
        for data in (source, target)
    )
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    return ImageCms.buildTransform(of_source, of_target, mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags)


@lru_cache(32)
def _space(profile: bytes) -> str | None:
    """Return the colour space of a profile that can be used, None for any other."""
    from PIL import ImageCms  # noqa: PLC0415

    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = str(opened.profile.xcolor_space).strip()
        if space in _SPACES:
            _transform(profile, None, {"GRAY": "L"}.get(space, space))
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    return space


@lru_cache(32)
def _coded_profile(primaries: int, transfer: int) -> bytes | None:
    """Return the profile of code points; None for unknown ones and for light beyond white (PQ, HLG)."""
    points, curve = _CODED_PRIMARIES.get(primaries), _CODED_CURVES.get(transfer)
    return None if points is None or curve is None else icc.build_profile(points, icc.D65, curve)


@lru_cache(32)
def _measured_profile(gamma: bytes, chromaticities: bytes | None) -> bytes | None:
    """Return the profile of the chunks gAMA and cHRM; None if they are invalid."""
    (exponent,) = struct.unpack(">I", gamma)
    numbers = (0,) * 8 if chromaticities is None else struct.unpack(">8I", chromaticities)
    white, *points = ((x / _UNIT, y / _UNIT) for x, y in zip(numbers[::2], numbers[1::2], strict=True))
    if chromaticities is None:
        white, points = icc.D65, list(icc.SRGB)
    try:
        return icc.build_profile((points[0], points[1], points[2]), white, lambda value: value ** (_UNIT / exponent))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def _linearise(value: float, knee: float, slope: float, offset: float, power: float) -> float:
    return value / slope if value < knee else ((value + offset) / (1 + offset)) ** power
