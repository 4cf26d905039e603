"""Image files to arrays and back. Only this module handles formats, orientation, alpha and colour order.

Arrays are uint8, RGB (height, width, 3) or greyscale (height, width). Limits are checked before pixels are decoded.
"""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image, ImageOps

from shared import png
from shared.errors import BadImage, TooLarge
from shared.file_structure import check_structure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
_BROKEN = (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, EOFError,
           OverflowError, ZeroDivisionError, struct.error, zlib.error)  # fmt: skip
_WHITE, _BLACK = (255, 255, 255, 255), (0, 0, 0, 255)
_BAND_PIXELS = 1_000_000
_FLOOR_OF_MEAN = (1 / 3, 1 / 3, 1 / 3, -1 / 3)  # Pillow rounds to nearest; a third less rounds down

# `_open_image` enforces the limits; Pillow's own guard only warns.
Image.MAX_IMAGE_PIXELS = None
# Larger than the blocks that malloc keeps for reuse (32 MB), so memory returns to the system. With the default, a
# process kept 340 MB after two images of 64 megapixels at once.
Image.core.set_block_size(64 * 1024**2)  # type: ignore[attr-defined]  # same as PILLOW_BLOCK_SIZE in the environment


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The header of an image file. `width` and `height` are those of the upright image, in pixels."""

    width: int
    height: int
    content_type: str


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded, upright image and the ICC profile of its values (None: sRGB)."""

    rgb: Rgb
    icc: bytes | None = None


def probe(data: bytes) -> ImageInfo:
    """Read the header, check the limits, and check that the file is complete, without decoding all pixels.

    Raises BadImage or TooLarge.
    """
    with _open_image(data) as image:
        _check_whole(image, data)
        width, height = image.size
        if _orientation(image, data) in _SIDEWAYS:
            width, height = height, width
        return ImageInfo(width, height, Image.MIME[image.format or ""])


def decode_photo(data: bytes) -> Photo:
    """Decode the first frame, upright, on white, scaled to 8 bits. Raises BadImage or TooLarge."""
    with _open_image(data) as image:
        plain = _plain_png(image, data)
        icc = image.info.get("icc_profile") if image.mode in {"RGB", "RGBA"} else None
        if plain is not None and (rgb := _opaque(plain)) is not None:
            return Photo(rgb, icc)
        upright = _upright(image, data, plain)
        return Photo(_in_bands(upright, lambda band: _on_ground(band, _WHITE).convert("RGB")), icc)


def decode_mask(data: bytes) -> Grey:
    """Decode a mask: the mean of R, G and B; transparent is black. Raises BadImage or TooLarge."""
    with _open_image(data) as image:
        plain = _plain_png(image, data)
        if plain is not None and (rgb := _opaque(plain)) is not None:
            return _grey(rgb)
        return _in_bands(_upright(image, data, plain), _mask_band)


def mask_is_empty(data: bytes, threshold: int = 128) -> bool:
    """Return whether `decode_mask` has no value above the threshold, without numpy. Raises BadImage or TooLarge.

    Beside the decoded image it takes a few megabytes: it works in bands, and ends at the first one with a bright pixel.
    """
    with _open_image(data) as image:
        image.load()
        return all(_is_dark(band, threshold) for band in _bands(image))


def encode_png(pixels: Rgb | Grey, icc: bytes | None = None) -> bytes:
    """Encode (h, w), (h, w, 3) RGB or (h, w, 4) RGBA as PNG, with the ICC profile if there is one."""
    return png.pack(pixels, icc)


def encode_jpeg(pixels: Rgb, quality: int = 85) -> bytes:
    """Encode as JPEG, for previews."""
    import cv2  # noqa: PLC0415

    ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise BadImage("The image could not be encoded.")
    return bytes(encoded)


@contextmanager
def _open_image(data: bytes) -> Iterator[ImageFile.ImageFile]:
    """Open lazily, check the limits, and raise BadImage for each error that a broken file causes in Pillow."""
    check_structure(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except _BROKEN as error:
        raise BadImage(f"The file is not a readable image ({', '.join(FORMATS)}).") from error
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
        raise TooLarge(
            f"The image is {width} x {height} pixels; at most {MAX_SIDE_PX} a side and "
            f"{MAX_PIXELS // 1_000_000} megapixels are accepted."
        )
    if image.format == "MPO":  # from many phones: a JPEG that contains further images
        image.format = "JPEG"
    try:
        yield image
    except _BROKEN as error:
        raise BadImage("The image is damaged or incomplete.") from error
    finally:
        image.close()


def _upright(image: ImageFile.ImageFile, data: bytes, plain: NDArray[np.uint8] | None) -> Image.Image:
    """Load the first frame and apply the EXIF orientation; `plain` is the result of `_plain_png`."""
    if plain is not None:
        return Image.frombuffer(image.mode, image.size, plain, "raw", image.mode, 0, 1)
    loaded = _load(image, data)
    ImageOps.exif_transpose(loaded, in_place=True)
    return loaded


def _load(image: ImageFile.ImageFile, data: bytes) -> Image.Image:
    """Decode the first frame. OpenCV gives the pixels of a WebP with 7 bytes a pixel; Pillow takes 20."""
    if image.format != "WEBP" or getattr(image, "n_frames", 1) > 1:
        image.load()
        return image
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.shape[1::-1] != image.size:
        raise BadImage("The image is damaged or incomplete.")
    code = cv2.COLOR_BGR2RGB if stored.shape[2] == 3 else cv2.COLOR_BGRA2RGBA  # noqa: PLR2004
    still = Image.fromarray(cv2.cvtColor(stored, code, dst=stored))
    still.info = dict(image.info)
    return still


def _on_ground(image: Image.Image, ground: tuple[int, int, int, int]) -> Image.Image:
    """Convert to 8 bits a channel and lay transparent pixels on the ground colour."""
    image = _eight_bit(image)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return layer
    return Image.alpha_composite(Image.new("RGBA", layer.size, ground), layer)


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    width, height = image.size
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield image.crop((0, top, width, min(top + rows, height)))


def _in_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image | Grey]) -> NDArray[np.uint8]:
    """Convert an image band by band, which takes no second copy of it, and return its pixels."""
    import numpy as np  # noqa: PLC0415 (the gateway starts without numpy)

    pixels, top = np.empty(0, np.uint8), 0
    for band in _bands(image):
        part = np.asarray(convert(band))
        if top == 0:
            pixels = np.empty((image.height, *part.shape[1:]), np.uint8)
        pixels[top : top + len(part)] = part
        top += len(part)
    return pixels


def _mask_band(band: Image.Image) -> Image.Image | Grey:
    import numpy as np  # noqa: PLC0415

    opaque = _on_ground(band, _BLACK)
    return opaque.convert("L") if opaque.mode in {"L", "1"} else _grey(np.asarray(opaque.convert("RGB")))


def _is_dark(band: Image.Image, threshold: int) -> bool:
    opaque = _on_ground(band, _BLACK)
    luma = _brightest(opaque.convert("L"))
    # Luma weighs R, G, B by 0.299, 0.587, 0.114 and the mean by 1/3 each, so this fast test decides most masks.
    if luma * 0.56 > threshold + 1:
        return False
    return luma * 3 + 2 <= threshold or _brightest(opaque.convert("RGB").convert("L", _FLOOR_OF_MEAN)) <= threshold


def _brightest(grey: Image.Image) -> int:
    return max(value for value, count in enumerate(grey.histogram()) if count)


def _plain_png(image: ImageFile.ImageFile, data: bytes) -> NDArray[np.uint8] | None:
    """Decode an upright PNG with 8 bits a channel, as browsers send it, to (height, width, channels); else None."""
    if image.format != "PNG" or "transparency" in image.info:
        return None
    kinds = {kind for kind, _ in png.chunks(data)}
    if b"IEND" not in kinds or b"acTL" in kinds or _orientation(image, data) != 1:
        return None
    return png.unpack(data, image.mode, image.size)


def _opaque(pixels: NDArray[np.uint8]) -> Rgb | None:
    """Return the RGB of opaque RGB or RGBA pixels, ten times faster than Pillow; None for all others."""
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    channels = pixels.shape[2]
    if channels == 3:  # noqa: PLR2004
        return pixels
    if channels == 1 or cv2.minMaxLoc(cv2.extractChannel(pixels, 3))[0] < 255:  # noqa: PLR2004
        return None
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB))


def _grey(rgb: Rgb) -> Grey:
    """Return the mean of R, G and B, rounded down. Grey RGB, as browsers send masks, takes a millisecond."""
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    red, green, blue = cv2.split(rgb)
    if cv2.norm(red, green, cv2.NORM_INF) == 0 and cv2.norm(red, blue, cv2.NORM_INF) == 0:
        return np.asarray(red)
    return np.asarray((rgb.sum(axis=2, dtype=np.uint16) // 3).astype(np.uint8))


def _orientation(image: ImageFile.ImageFile, data: bytes) -> int:
    """Return the EXIF orientation. Of a PNG Pillow decodes all pixels to find it, so look for its chunk first."""
    if image.format == "PNG" and not any(_has_orientation(kind, body) for kind, body in png.chunks(data)):
        return 1
    return int(image.getexif().get(_EXIF_ORIENTATION, 1))


def _has_orientation(kind: bytes, body: memoryview) -> bool:
    return kind == b"eXIf" or (kind in {b"tEXt", b"zTXt"} and bytes(body[:16]) == b"Raw profile type")


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode not in _SIXTEEN_BIT:
        return image
    if image.mode == "F":
        return image.convert("L")
    return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")


def _check_whole(image: ImageFile.ImageFile, data: bytes) -> None:
    """Raise BadImage for a file that ends early, with the cheapest check of each format."""
    if image.format == "PNG":
        if not any(kind == b"IEND" for kind, _ in png.chunks(data)):
            raise BadImage("The image is incomplete.")
    elif image.format == "WEBP":
        if int.from_bytes(data[4:8], "little") + 8 > len(data):
            raise BadImage("The image is incomplete.")
    elif image.format == "JPEG":
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as again:
            again.draft("L", (1, 1))  # scale 1/8: reads every byte, transforms few
            again.load()
    else:
        image.load()
