"""Picture bytes to arrays and back: the one place where formats, orientation, alpha and colour order are decided.

Arrays are uint8 and RGB (height, width, 3) or greyscale (height, width); bounds are checked before anything is decoded.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image, ImageOps

from shared import png
from shared.errors import BadImage, TooLarge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import ImageFile

    Rgb: TypeAlias = NDArray[np.uint8]
    """(height, width, 3), R G B."""
    Grey: TypeAlias = NDArray[np.uint8]
    """(height, width); in a mask 255 is "inside"."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 64_000_000
MAX_SIDE_PX = 16_384
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
_SIXTEEN_BIT = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
_WHITE, _BLACK = (255, 255, 255, 255), (0, 0, 0, 255)
_FLOOR_OF_MEAN = (1 / 3, 1 / 3, 1 / 3, -1 / 3)  # Pillow rounds: a third less, and that is rounding down

# `_opened` is stricter than Pillow's own guard, which would only warn.
Image.MAX_IMAGE_PIXELS = None
# Above what malloc ever keeps for reuse (32 MB), so the memory of a huge picture goes back to the system: after two of
# 64 megapixels at once a process held 340 MB for good.
Image.core.set_block_size(64 * 1024**2)  # type: ignore[attr-defined]  # as PILLOW_BLOCK_SIZE in the environment would


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a picture's header says. `width` and `height` are those of the upright picture, in pixels."""

    width: int
    height: int
    content_type: str


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded, upright picture and the ICC profile its numbers are meant in (None: sRGB)."""

    rgb: Rgb
    icc: bytes | None = None


def probe(data: bytes) -> ImageInfo:
    """Read the header, check the bounds, then check that the file is whole; pixels of PNG and JPEG are not unpacked.

    Raises BadImage or TooLarge.
    """
    with _opened(data) as picture:
        _check_whole(picture, data)
        width, height = picture.size
        if _orientation(picture, data) in _SIDEWAYS:
            width, height = height, width
        return ImageInfo(width, height, Image.MIME[picture.format or ""])


def decode_photo(data: bytes) -> Photo:
    """Decode the first frame, upright, transparency on white, 16 bits scaled to 8. Raises BadImage or TooLarge."""
    import numpy as np  # noqa: PLC0415 (the gateway starts without it)

    with _opened(data) as picture:
        plain = _plain_png(picture, data)
        icc = picture.info.get("icc_profile") if picture.mode in {"RGB", "RGBA"} else None
        if plain is not None and (rgb := _opaque(plain)) is not None:
            return Photo(rgb, icc)
        upright = _upright(picture, plain)
        return Photo(np.array(_on_ground(upright, _WHITE).convert("RGB")), icc)


def decode_mask(data: bytes) -> Grey:
    """Decode a mask: mean of R, G and B; transparent counts as black. Raises BadImage or TooLarge."""
    import numpy as np  # noqa: PLC0415

    with _opened(data) as picture:
        plain = _plain_png(picture, data)
        if plain is not None and (rgb := _opaque(plain)) is not None:
            return _grey(rgb)
        opaque = _on_ground(_upright(picture, plain), _BLACK)
        if opaque.mode in {"L", "1"}:
            return np.array(opaque.convert("L"))
        return _grey(np.array(opaque.convert("RGB")))


def mask_is_empty(data: bytes, threshold: int = 128) -> bool:
    """Whether `decode_mask` would find nothing above the threshold; needs no OpenCV. Raises BadImage or TooLarge."""
    with _opened(data) as picture:
        opaque = _on_ground(_upright(picture, _plain_png(picture, data)), _BLACK)
        luma = _brightest(opaque.convert("L"))
        # Luma weighs red 0.299, green 0.587, blue 0.114, where the mean has 1/3 each: mostly this quick look decides.
        if luma * 0.56 > threshold + 1:
            return False
        return luma * 3 + 2 <= threshold or _brightest(opaque.convert("RGB").convert("L", _FLOOR_OF_MEAN)) <= threshold


def encode_png(pixels: Rgb | Grey, icc: bytes | None = None) -> bytes:
    """Encode (h, w), (h, w, 3) RGB or (h, w, 4) RGBA without loss; the profile, if any, travels with it."""
    return png.pack(pixels, icc)


def encode_jpeg(pixels: Rgb, quality: int = 85) -> bytes:
    """Encode with loss, for previews."""
    import cv2  # noqa: PLC0415

    ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise BadImage("The picture could not be encoded.")
    return bytes(encoded)


class _opened:  # noqa: N801 (reads as a verb at the call site)
    """Open lazily, check the bounds, and translate what a broken file makes Pillow raise."""

    _BROKEN = (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, EOFError,
               OverflowError, ZeroDivisionError, struct.error, zlib.error)  # fmt: skip

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __enter__(self) -> ImageFile.ImageFile:
        try:
            picture = Image.open(io.BytesIO(self._data), formats=FORMATS)
        except self._BROKEN as error:
            raise BadImage(f"The file is not a readable picture ({', '.join(FORMATS)}).") from error
        width, height = picture.size
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
            raise TooLarge(
                f"The picture is {width} x {height} pixels; at most {MAX_SIDE_PX} a side and "
                f"{MAX_PIXELS // 1_000_000} megapixels are accepted."
            )
        if picture.format == "MPO":  # what many telephones write: a JPEG with more pictures behind it
            picture.format = "JPEG"
        self._picture = picture
        return picture

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._picture.close()
        if kind is not None and issubclass(kind, self._BROKEN):
            raise BadImage("The picture is damaged or cut short.") from error


def _upright(picture: Image.Image, plain: NDArray[np.uint8] | None) -> Image.Image:
    """Load the first frame and turn it the way the camera was held; `plain` is what `_plain_png` has found."""
    if plain is not None:
        return Image.frombuffer(picture.mode, picture.size, plain, "raw", picture.mode, 0, 1)
    picture.load()
    return ImageOps.exif_transpose(picture)


def _on_ground(picture: Image.Image, ground: tuple[int, int, int, int]) -> Image.Image:
    """Lay what is transparent on a ground; 8 bits a channel in any case."""
    picture = _eight_bit(picture)
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture
    layer = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return layer
    return Image.alpha_composite(Image.new("RGBA", layer.size, ground), layer)


def _brightest(grey: Image.Image) -> int:
    return max(value for value, count in enumerate(grey.histogram()) if count)


def _plain_png(picture: ImageFile.ImageFile, data: bytes) -> NDArray[np.uint8] | None:
    """Unpack what browsers send, an upright still with 8 bits a channel, as (height, width, channels); else None."""
    if picture.format != "PNG" or "transparency" in picture.info:
        return None
    kinds = {kind for kind, _ in png.chunks(data)}
    if b"IEND" not in kinds or b"acTL" in kinds or _orientation(picture, data) != 1:
        return None
    return png.unpack(data, picture.mode, picture.size)


def _opaque(pixels: NDArray[np.uint8]) -> Rgb | None:
    """RGB of opaque RGB or RGBA, in a tenth of Pillow's time; None if it is something else."""
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    channels = pixels.shape[2]
    if channels == 3:  # noqa: PLR2004
        return pixels
    if channels == 1 or cv2.minMaxLoc(cv2.extractChannel(pixels, 3))[0] < 255:  # noqa: PLR2004
        return None
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB))


def _grey(rgb: Rgb) -> Grey:
    """Mean of R, G and B, rounded down; what is grey already, as browsers send masks, costs a millisecond."""
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    red, green, blue = cv2.split(rgb)
    if cv2.norm(red, green, cv2.NORM_INF) == 0 and cv2.norm(red, blue, cv2.NORM_INF) == 0:
        return np.asarray(red)
    return np.asarray((rgb.sum(axis=2, dtype=np.uint16) // 3).astype(np.uint8))


def _orientation(picture: ImageFile.ImageFile, data: bytes) -> int:
    """Read EXIF orientation. Pillow unpacks all pixels of a PNG to look behind them: spare that where nothing is."""
    if picture.format == "PNG" and not any(_tells_orientation(kind, body) for kind, body in png.chunks(data)):
        return 1
    return int(picture.getexif().get(_EXIF_ORIENTATION, 1))


def _tells_orientation(kind: bytes, body: memoryview) -> bool:
    return kind == b"eXIf" or (kind in {b"tEXt", b"zTXt"} and bytes(body[:16]) == b"Raw profile type")


def _eight_bit(picture: Image.Image) -> Image.Image:
    if picture.mode not in _SIXTEEN_BIT:
        return picture
    if picture.mode == "F":
        return picture.convert("L")
    return picture.convert("I").point(lambda value: value * (1 / 257)).convert("L")


def _check_whole(picture: ImageFile.ImageFile, data: bytes) -> None:
    """Refuse files that end early, as cheaply as each format allows."""
    if picture.format == "PNG":
        if not any(kind == b"IEND" for kind, _ in png.chunks(data)):
            raise BadImage("The picture is cut short.")
    elif picture.format == "WEBP":
        if int.from_bytes(data[4:8], "little") + 8 > len(data):
            raise BadImage("The picture is cut short.")
    elif picture.format == "JPEG":
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as again:
            again.draft("L", (1, 1))  # 1/8 scale: every byte is read, few are transformed
            again.load()
    else:
        picture.load()
