"""Reads files with 16 bits per channel and reduces them to 8 bits.

Pillow reads 16-bit colours as 8 bits and ignores a colour key among them, so OpenCV reads these files. All engines work
on 8 bits; the result of an edit has the photo's 16 bits wherever nothing was painted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from shared.errors import BadImage
from shared.image_formats import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from shared.image_source import Source

    Deep: TypeAlias = NDArray[np.uint16]
    """(height, width) grey, (height, width, 3) R G B or (height, width, 4) R G B A."""

MOST_PIXELS = MAX_PIXELS // 2
"""Pixels of the largest picture that keeps 16 bits: as many bytes as the largest one with 8 bits."""
KEPT = "edited at 8 bits, kept 16 outside"
"""The note on a picture that keeps its 16 bits outside the edited region."""
TOO_LARGE = "16 bits reduced to 8: above 32 megapixels"
REDUCED = "16 bits reduced to 8"
_BITS = 16
_BITS_TAG, _PHOTOMETRIC_TAG, _FORMAT_TAG, _UNSIGNED = 258, 262, 339, 1  # TIFF 6.0, sections 8 and 19
_NUMBERS = frozenset({"I", "F"})  # 32 bits, whole or not: their range is the file's own
_GREY_MODES = _NUMBERS | {"I;16", "I;16B"}
_LEVELS = 255
_ALMOST = 1e-4  # more than the error of a product in 32 bits; levels are rounded down
_TIFF_MODES = frozenset({"I;16", "I;16B", "RGB", "RGBA"})  # Pillow's; OpenCV reads these as they are stored
_OPAQUE, _STEP = 65535, 257
_BAND_ROWS = 64
_GREY_ALPHA = 4  # colour type of a PNG
_COLOURS, _WITH_ALPHA = 3, 4  # channels


def is_deep(source: Source) -> bool:
    """Return whether the file has 16 bits a channel."""
    if source.format == "PNG":
        return source.pixels[24] == _BITS  # the fifth field of IHDR
    if source.format != "TIFF":
        return False
    bits = _tag(source, _BITS_TAG, ())
    return bool(bits) and set(bits) == {_BITS}


def is_kept(source: Source) -> bool:
    """Return whether `read` can read all 16 bits of the file."""
    width, height = source.size
    if not is_deep(source) or width * height > MOST_PIXELS:
        return False
    return source.format == "PNG" or (source.image.mode in _TIFF_MODES and _is_unsigned(source))


def is_read(source: Source, *, wanted: bool) -> bool:
    """Return whether to call `read`: where the 16 bits are wanted, and for every PNG: Pillow ignores its colour key."""
    return is_kept(source) and (wanted or source.format == "PNG")


def note_of(source: Source, *, lost: bool = False) -> str | None:
    """Return the note on the 16 bits of a file; None if it has fewer. `lost`: they could not be read."""
    if not is_deep(source):
        return None
    if is_kept(source):
        return REDUCED if lost else KEPT
    width, height = source.size
    return TOO_LARGE if width * height > MOST_PIXELS else REDUCED


def mode_of(source: Source) -> str:
    """Return Pillow's mode of the file. It states RGBA for grey with transparency at 16 bits, but LA at 8."""
    if source.format == "PNG" and is_deep(source) and source.pixels[25] == _GREY_ALPHA:
        return "LA"
    return source.image.mode


def read(source: Source) -> Deep | None:
    """Decode the first picture of a file for which `is_kept` is True, as it is stored.

    None for a file that OpenCV cannot read, such as a TIFF with a rare compression: Pillow decodes it, or raises.
    """
    import cv2  # noqa: PLC0415 (the gateway's children start without it)
    import numpy as np  # noqa: PLC0415

    try:
        stored = cv2.imdecode(np.frombuffer(source.pixels, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if stored is None or stored.dtype != np.uint16:
        return None
    if stored.ndim == _COLOURS:
        code = cv2.COLOR_BGR2RGB if stored.shape[2] == _COLOURS else cv2.COLOR_BGRA2RGBA
        return np.asarray(cv2.cvtColor(stored, code, dst=stored), np.uint16)
    if source.format == "TIFF":
        return np.asarray(np.invert(stored) if _is_negative(source) else stored, np.uint16)
    key = source.image.info.get("transparency")
    if key is None:
        return np.asarray(stored, np.uint16)
    opacity = np.where(stored == key, np.uint16(0), np.uint16(_OPAQUE))  # OpenCV ignores the key of a grey file
    return np.dstack([stored, stored, stored, opacity])


def to_eight_bits(deep: Deep) -> NDArray[np.uint8]:
    """Return the pixels with 8 bits, rounded down: grey from its 65,536 steps, colours by their upper byte."""
    import numpy as np  # noqa: PLC0415

    shallow = np.empty(deep.shape, np.uint8)
    if deep.ndim == 2:  # noqa: PLR2004 (grey)
        return np.floor_divide(deep, _STEP, out=shallow, casting="unsafe")
    return np.right_shift(deep, 8, out=shallow, casting="unsafe")


def take_key(image: Image.Image, source: Source) -> list[int] | None:
    """Remove the colour key from a PNG with 16 bits: Pillow would compare it with 8 bits. Works without numpy.

    Return the 8-bit level of each value of grey, with the key as black; None for colours, which count as opaque.
    """
    if source.format != "PNG" or not is_deep(source):
        return None
    key = image.info.pop("transparency", None)
    if image.mode not in _GREY_MODES:
        return None
    if key is None:
        return [value // _STEP for value in range(_OPAQUE + 1)]
    return [0 if value == key else value >> 8 for value in range(_OPAQUE + 1)]  # as a colour, see `read`


def curves_of(table: NDArray[np.uint8]) -> Deep:
    """Return the curves (3, 65536) for 16 bits of a table (256, 3).

    Each curve runs through the middles of the table's steps, so it has no steps. It differs from the table by less than
    one level, and keeps each value that the table keeps.
    """
    import numpy as np  # noqa: PLC0415

    values, curves = np.arange(65536), []
    for levels in table.T:
        starts = np.flatnonzero(np.diff(levels.astype(np.int16), prepend=-1))
        ends = np.append(starts[1:], 256) - 1
        curves.append(np.interp(values, (starts + ends) * (_STEP / 2), levels[starts] * float(_STEP)))
    return np.rint(curves).astype(np.uint16)


def to_levels(image: Image.Image, source: Source) -> Image.Image:
    """Return grey of 32 bits as grey of 8: scale fractions from 0 to 1 by that range, all others by their own range.

    All other images are returned unchanged, except those of 16 bits with 0 as white. Raises BadImage.
    """
    negative = _is_negative(source)
    if image.mode not in _NUMBERS and not negative:
        return image
    check_numbers(image)
    image = _without_sign(image, source)
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]  # of a picture with one channel
    if image.mode not in _NUMBERS:
        low, high = 0.0, float(_OPAQUE)
    elif image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scale = _LEVELS / (high - low) if high > low else 0.0
    scale, offset = (-scale, high * scale) if negative else (scale, -low * scale)
    return image.convert("F").point(lambda value: value * scale + (offset + _ALMOST)).convert("L")


def check_numbers(image: Image.Image) -> None:
    """Raise BadImage for a decoded image with fractions that are not finite numbers."""
    if image.mode != "F":
        return
    import numpy as np  # noqa: PLC0415 (the gateway starts without numpy)

    for top in range(0, image.height, _BAND_ROWS):
        band = image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height)))
        if not np.isfinite(np.asarray(band)).all():  # Pillow's range ignores NaN
            raise BadImage("The image has values that are not finite numbers; save it with 8 or 16 bits a channel.")


def to_result(
    deep: Deep, source: Source, upright: Image.Image, convert: Callable[[Image.Image], Image.Image] | None
) -> Deep | None:
    """Return the pixels upright as RGB or, where some are transparent, as RGBA.

    None if the same file, read by Pillow as `upright`, has other values: a kind of TIFF that OpenCV does not know.
    `convert` converts grey to sRGB by the picture's profile.
    """
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    if source.format == "TIFF" and upright.mode == "RGB" and deep.shape[2:] == (_WITH_ALPHA,):
        deep = np.ascontiguousarray(deep[..., :3])  # the fourth channel has no meaning
    if source.format == "TIFF" and not _is_equal(upright, deep):
        return None
    if deep.ndim == 2:  # noqa: PLR2004 (grey)
        deep = np.asarray(cv2.cvtColor(deep, cv2.COLOR_GRAY2RGB), np.uint16)
    if source.format == "PNG":  # OpenCV reads a TIFF upright
        deep = _turn(_on_canvas(deep, source), source.orientation)
    if deep.shape[2] == _WITH_ALPHA and deep[..., 3].min() == _OPAQUE:
        deep = np.ascontiguousarray(deep[..., :3])
    if convert is not None:
        _convert(deep, convert)
    return deep


def _is_equal(upright: Image.Image, deep: Deep) -> bool:
    """Return whether both have the same upper bytes, or the same values if Pillow reads all 16 bits."""
    import numpy as np  # noqa: PLC0415

    pixels = np.asarray(upright)
    if pixels.shape != deep.shape:
        return False
    if pixels.dtype != np.uint8:
        return np.array_equal(pixels, deep)
    tops = range(0, len(deep), _BAND_ROWS)
    return all(np.array_equal(pixels[y : y + _BAND_ROWS], to_eight_bits(deep[y : y + _BAND_ROWS])) for y in tops)


def _is_negative(source: Source) -> bool:
    """Return whether 0 is white in a TIFF of more than 8 bits: Pillow and OpenCV do not invert these."""
    return source.format == "TIFF" and source.image.mode in _GREY_MODES and _tag(source, _PHOTOMETRIC_TAG, 1) == 0


def _without_sign(image: Image.Image, source: Source) -> Image.Image:
    """Return numbers from 2^31 on, which Pillow reads as negative, as fractions; return other images unchanged."""
    if image.mode != "I" or source.format != "TIFF" or not _is_unsigned(source) or image.getextrema()[0] >= 0:  # type: ignore[operator]  # one channel
        return image
    import numpy as np  # noqa: PLC0415
    from PIL import Image as Pillow  # noqa: PLC0415

    return Pillow.fromarray(np.asarray(image).view(np.uint32).astype(np.float32))


def _tag(source: Source, tag: int, default: Any) -> Any:
    return source.image.tag_v2.get(tag, default)  # type: ignore[attr-defined]  # of Pillow's class for TIFF


def _is_unsigned(source: Source) -> bool:
    kinds = _tag(source, _FORMAT_TAG, (_UNSIGNED,))
    return set(kinds) == {_UNSIGNED}


def _on_canvas(deep: Deep, source: Source) -> Deep:
    """Return the first frame of an animation at its place on a transparent canvas; return other images unchanged."""
    import numpy as np  # noqa: PLC0415

    if source.frame is None:
        return deep
    width, height = source.size
    canvas = np.zeros((height, width, _WITH_ALPHA), np.uint16)
    rows = slice(source.frame.y, source.frame.y + source.frame.height)
    columns = slice(source.frame.x, source.frame.x + source.frame.width)
    canvas[rows, columns, 3] = _OPAQUE
    canvas[rows, columns, : deep.shape[2]] = deep
    return canvas


def _turn(deep: Deep, orientation: int) -> Deep:
    """Return the pixels upright, as Pillow's transpositions of the EXIF orientations do."""
    import numpy as np  # noqa: PLC0415

    if orientation >= 5:  # noqa: PLR2004 (rows and columns change places)
        deep = deep.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        deep = deep[::-1]
    if orientation in {2, 3, 6, 7}:
        deep = deep[:, ::-1]
    return np.ascontiguousarray(deep)


def _convert(deep: Deep, convert: Callable[[Image.Image], Image.Image]) -> None:
    """Convert grey in place, by a curve through the 256 values that the profile gives for 8 bits."""
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    curves = curves_of(np.asarray(convert(ramp).convert("RGB"))[0])
    for row in deep:  # an index takes eight bytes a value
        for channel, curve in enumerate(curves):
            row[:, channel] = curve[row[:, channel]]
