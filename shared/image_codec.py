"""Image files to arrays and back. Only this module handles modes, transparency and colour order.

Arrays are uint8, RGB (height, width, 3) or greyscale (height, width). `shared/image_source.py` opens the files, and
`shared/deep_pixels.py` reads those with 16 bits a channel.
"""

from __future__ import annotations

import asyncio
import io
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image

from shared import deep_pixels, jpeg, png
from shared.colour import SRGB, Colour, converter, fit
from shared.errors import BadImage
from shared.image_formats import CONTENT_TYPES
from shared.image_notes import list_notes
from shared.image_source import open_source
from shared.source_types import build_png_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from shared.deep_pixels import Deep
    from shared.image_source import Source
    from shared.source_types import SourceType

    Rgb: TypeAlias = NDArray[np.uint8]
    """(height, width, 3), R G B."""
    Rgba: TypeAlias = NDArray[np.uint8]
    """(height, width, 4), R G B A; the colours are not multiplied by the opacity A."""
    Grey: TypeAlias = NDArray[np.uint8]
    """(height, width); in a mask 255 is "inside"."""

_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_WHOLE_IF_ENDED = frozenset({"PNG", "WEBP", "AVIF", "HEIF"})
_OPAQUE = 255
_WHITE, _BLACK = (255, 255, 255, 255), (0, 0, 0, 255)
_BAND_PIXELS = 1_000_000
_FLOOR_OF_MEAN = (1 / 3, 1 / 3, 1 / 3, -1 / 3)  # Pillow rounds to nearest; a third less rounds down

# The transpositions that make an image of each EXIF orientation upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The header of an image file. `width` and `height` are those of the upright image, in pixels."""

    width: int
    height: int
    content_type: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded, upright image on white, and the meaning of its values.

    `rgba` holds the image's own colours and its transparency; None if all of it is opaque, or without `with_alpha`.
    `deep` holds the same with 16 bits a channel, as RGB or RGBA; None if the file has fewer, or without `with_depth`.
    """

    rgb: Rgb
    colour: Colour = SRGB
    rgba: Rgba | None = None
    deep: Deep | None = None
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> Rgb | Rgba | Deep:
        """The values that a result keeps where nothing is edited."""
        if self.deep is not None:
            return self.deep
        return self.rgb if self.rgba is None else self.rgba


def probe(data: bytes, look: Callable[[Source], None] = lambda _: None) -> ImageInfo:
    """Read the header, check the limits, and check that the file is complete, without decoding all pixels.

    `look` gets the opened file before that, and may refuse it. Raises BadImage or TooLarge.
    """
    with open_source(data) as source:
        look(source)
        _check_whole(source)
        notes = list_notes(source, data, depth=deep_pixels.note_of(source))
        return ImageInfo(*source.upright_size, CONTENT_TYPES[source.format], notes)


async def probe_in_thread(data: bytes) -> tuple[int, int, str, list[str]]:
    """Return the upright width and height in pixels, the content type and notes, see `probe`. For an image store."""
    info = await asyncio.to_thread(probe, data)
    return info.width, info.height, info.content_type, list(info.notes)


def decode_photo(data: bytes, *, with_alpha: bool = False, with_depth: bool = False) -> Photo:
    """Decode the first frame, upright, on white, scaled to 8 bits. Raises BadImage or TooLarge.

    Grey and CMYK values with a profile become sRGB. `with_alpha` also keeps the transparency, `with_depth` the 16
    bits of a channel.
    """
    with open_source(data) as source:
        plain, mode = _plain_png(source), deep_pixels.mode_of(source)
        colour, convert = fit(mode, source.colour), converter(mode, source.colour)
        if plain is not None and (rgb := _opaque(plain)) is not None:
            return Photo(rgb, colour, notes=list_notes(source, data))
        if convert is None and (rgb := _plain_jpeg(source)) is not None:
            return Photo(rgb, colour, notes=list_notes(source, data))
        deep = deep_pixels.read(source) if deep_pixels.is_read(source, wanted=with_depth) else None
        upright = _upright(source, plain, deep)
        if deep is not None:
            deep = deep_pixels.to_result(deep, source, upright, convert) if with_depth else None
        notes = list_notes(source, data, depth=deep_pixels.note_of(source, lost=deep is None))
        if with_alpha and _may_be_transparent(upright):
            rgba = _in_bands(upright, lambda band: _convert(band, convert).convert("RGBA"))
            if rgba[..., 3].min() < _OPAQUE:
                return Photo(lay_on_white(rgba), colour, rgba, deep, notes)
        rgb = _in_bands(upright, lambda band: _on_ground(_convert(band, convert), _WHITE).convert("RGB"))
        return Photo(rgb, colour, None, deep, notes)


def lay_on_white(rgba: Rgba) -> Rgb:
    """Return the colours of an image on a white ground, (h, w, 3)."""
    return _in_bands(Image.fromarray(rgba), lambda band: _on_ground(band, _WHITE).convert("RGB"))


def decode_mask(data: bytes) -> Grey:
    """Decode a mask: the mean of R, G and B; transparent is black. Raises BadImage or TooLarge."""
    with open_source(data) as source:
        plain = _plain_png(source)
        if plain is not None and (rgb := _opaque(plain)) is not None:
            return _grey(rgb)
        deep = deep_pixels.read(source) if deep_pixels.is_read(source, wanted=False) else None
        return _in_bands(_upright(source, plain, deep), _mask_band)


def mask_is_empty(data: bytes, threshold: int = 128) -> bool:
    """Return whether `decode_mask` has no value above the threshold, without numpy. Raises BadImage or TooLarge.

    Beside the decoded image it takes a few megabytes: it works in bands, and ends at the first one with a bright pixel.
    """
    with open_source(data) as source:
        image = deep_pixels.to_levels(_load_by_pillow(source), source)
        levels = deep_pixels.take_key(image, source)
        bands = (band if levels is None else band.convert("I").point(levels, "L") for band in _bands(image))
        return all(_is_dark(band, threshold) for band in bands)


def encode_png(pixels: Rgb | Rgba | Grey | Deep, colour: Colour = SRGB, source_type: SourceType | None = None) -> bytes:
    """Encode (h, w), (h, w, 3) RGB or (h, w, 4) RGBA as PNG that states the meaning of its values, and its source."""
    return png.pack(pixels, *colour.for_png(), *build_png_chunks(source_type))


def encode_jpeg(pixels: Rgb, quality: int = 85) -> bytes:
    """Encode as JPEG, for previews."""
    import cv2  # noqa: PLC0415

    ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise BadImage("The image could not be encoded.")
    return bytes(encoded)


def _upright(source: Source, plain: NDArray[np.uint8] | None, deep: Deep | None) -> Image.Image:
    """Load the first frame and turn it upright; `plain` is the result of `_plain_png`, `deep` was read already."""
    if plain is not None:
        return Image.frombuffer(source.image.mode, source.image.size, plain, "raw", source.image.mode, 0, 1)
    if deep is not None and source.format == "PNG":
        image = Image.fromarray(deep_pixels.to_eight_bits(deep))
    else:
        image = deep_pixels.to_levels(_load(source), source)
    if source.frame is not None:
        canvas = Image.new("RGBA", source.size)
        canvas.paste(image.convert("RGBA"), source.frame[2:])
        image = canvas
    if source.orientation not in TURNS:
        return image
    turned = image.transpose(TURNS[source.orientation])
    image.close()  # a large picture is in memory once
    return turned


def _load(source: Source) -> Image.Image:
    """Decode the first frame. OpenCV gives the pixels of a WebP with 7 bytes a pixel; Pillow takes 20."""
    if source.format != "WEBP" or getattr(source.image, "n_frames", 1) > 1:
        return _load_by_pillow(source)
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    stored = cv2.imdecode(np.frombuffer(source.pixels, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.shape[1::-1] != source.size:
        raise BadImage("The image is damaged or incomplete.")
    code = cv2.COLOR_BGR2RGB if stored.shape[2] == 3 else cv2.COLOR_BGRA2RGBA  # noqa: PLR2004
    return Image.fromarray(cv2.cvtColor(stored, code, dst=stored))


def _load_by_pillow(source: Source) -> Image.Image:
    """Decode the pixels, as many as were stated. A JPEG may lack its end marker, but no image data. Raises BadImage."""
    size = source.image.size
    try:
        source.image.load()
    except OSError:
        if source.format != "JPEG":
            raise
        return _load_without_end(source.pixels)
    if source.image.size != size:
        raise BadImage("The image is damaged or incomplete.")
    return source.image


def _load_without_end(pixels: bytes) -> Image.Image:
    ended, continued = (Image.open(io.BytesIO(data), formats=("JPEG",)) for data in jpeg.with_end(pixels))
    values = continued.histogram()  # it decodes the picture
    continued.close()  # one decoded image at a time
    ended.load()
    if ended.histogram() != values:
        raise BadImage("The image is damaged or incomplete.")
    return ended


def _may_be_transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _convert(band: Image.Image, convert: Callable[[Image.Image], Image.Image] | None) -> Image.Image:
    """Convert to 8 bits a channel, and by a profile if there is a function for that."""
    band = _eight_bit(band)
    return band if convert is None else convert(band)


def _on_ground(image: Image.Image, ground: tuple[int, int, int, int]) -> Image.Image:
    """Convert to 8 bits a channel and lay transparent pixels on the ground colour."""
    image = _eight_bit(image)
    if not _may_be_transparent(image):
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
    return int(grey.getextrema()[1])  # type: ignore[arg-type]  # of a picture with one channel


def _plain_png(source: Source) -> NDArray[np.uint8] | None:
    """Decode an upright PNG with 8 bits a channel, as browsers send it, to (height, width, channels); else None."""
    if source.format != "PNG" or "transparency" in source.image.info:
        return None
    if source.orientation != 1 or source.frame is not None or not source.ended:
        return None
    return png.unpack(source.pixels, source.image.mode, source.size)


def _plain_jpeg(source: Source) -> Rgb | None:
    """Decode a JPEG with three components; None for any other file."""
    if (source.format, source.image.mode, getattr(source.image, "layers", 0)) != ("JPEG", "RGB", 3):
        return None
    return jpeg.unpack(source.pixels, source.image.size, source.orientation)


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


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode not in _SIXTEEN_BIT:
        return image
    return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")


def _check_whole(source: Source) -> None:
    """Raise BadImage for a file that ends early, with the cheapest check of each format."""
    if source.format == "JPEG":
        with Image.open(io.BytesIO(source.pixels), formats=("JPEG",)) as small:
            small.draft("L", (1, 1))  # scale 1/8: reads every byte, transforms few
            with suppress(OSError):
                small.load()
                return
        _load_by_pillow(source)
    elif not source.ended or source.format not in _WHOLE_IF_ENDED:
        deep_pixels.check_numbers(_load_by_pillow(source))
