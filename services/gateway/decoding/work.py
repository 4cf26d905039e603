"""The operations of a decoding child, and an estimate of the memory of each from the header of the file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from services.gateway.decoding.alpha_masks import convert_alpha_mask
from shared.image_codec import TURNS, mask_is_empty, probe
from shared.image_source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import ImageFile

    from shared.image_codec import ImageInfo
    from shared.image_source import Source

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})  # modes that PNG and browsers support
_ONE_BYTE = frozenset({"1", "L", "P"})
_TWO_BYTES = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_VIDEO_FORMATS = frozenset({"WEBP", "AVIF", "HEIF"})
_VIDEO_BYTES = 20  # a pixel of WebP: the decoder's two canvases, its frame, the copy in Python, the image
_PROBED_BY_STRUCTURE = frozenset({"PNG", "WEBP", "AVIF", "HEIF"})
_END_OF_JPEG, _LONGEST_TAIL = b"\xff\xd9", 65_536  # without its end, all its pixels are decoded
_TILE_WIDTH, _TILE_HEIGHT, _STRIP_ROWS, _BITS = 322, 323, 278, 258  # TIFF 6.0, sections 8 and 15


class NeedsMemoryError(Exception):
    """The work needs more memory than the child may take."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__()
        self.needed_bytes = needed_bytes


def run(work: str, data: bytes, limit_bytes: int) -> dict[str, object] | bytes:
    """Return a verdict, or for `convert` and `alpha` a file. Raises NeedsMemoryError, BadImage, TooLarge."""

    def look(source: Source) -> None:
        needed_bytes = estimate_bytes(work, source, data)
        if needed_bytes > limit_bytes:
            raise NeedsMemoryError(needed_bytes)

    if work in _CONVERSIONS:
        with open_source(data) as source:
            look(source)
        return _CONVERSIONS[work](data)
    info = probe(data, look)  # opens the file once: its checksums take as long as all other checks
    found = _verdict(info)
    return {**found, "empty": mask_is_empty(data)} if work == "mask" else found


def _verdict(info: ImageInfo) -> dict[str, object]:
    return {"width": info.width, "height": info.height, "content_type": info.content_type, "notes": info.notes}


def convert_to_png(data: bytes) -> bytes:
    """Return the upright image as PNG. Raises BadImage, TooLarge."""
    with open_source(data) as source:
        source.image.load()
        turn = TURNS.get(source.orientation)
        upright = source.image if turn is None else source.image.transpose(turn)
        shown = upright if upright.mode in _PNG_MODES else upright.convert("RGB")
        file = io.BytesIO()
        shown.save(file, "PNG", compress_level=1)
    return file.getvalue()


_CONVERSIONS: dict[str, Callable[[bytes], bytes]] = {"convert": convert_to_png, "alpha": convert_alpha_mask}


def estimate_bytes(work: str, source: Source, data: bytes) -> int:
    """Return the memory that the work takes at most beside the file, by its header. Raises BadImage, TooLarge."""
    pixels = source.image.size[0] * source.image.size[1]
    decoded = pixels * _pixel_bytes(source.image)
    decoder = _decoder_bytes(source.image, data)
    if work == "describe":
        return decoder + (0 if _is_probed_without_pixels(source, data) else decoded)
    if work == "alpha" and source.orientation == 1 and source.frame is None:
        return decoder + decoded
    return decoder + (decoded if work == "mask" else 3 * decoded)  # upright, and as a file


def _is_probed_without_pixels(source: Source, data: bytes) -> bool:
    if source.format == "JPEG":
        return _END_OF_JPEG in data[-_LONGEST_TAIL:]
    return source.ended and source.format in _PROBED_BY_STRUCTURE


def _decoder_bytes(image: ImageFile.ImageFile, data: bytes) -> int:
    """Return the bytes that the decoder of the format keeps beside the decoded image."""
    if image.format in {"JPEG", "MPO"}:
        return _coefficient_bytes(image, data)
    return _strip_bytes(image) if image.format == "TIFF" else 0


def _pixel_bytes(image: ImageFile.ImageFile) -> int:
    if image.format in _VIDEO_FORMATS:
        return _VIDEO_BYTES
    return 1 if image.mode in _ONE_BYTE else 2 if image.mode in _TWO_BYTES else 4


def _coefficient_bytes(image: ImageFile.ImageFile, data: bytes) -> int:
    """Return the bytes that libjpeg keeps of a JPEG with several scans: two a sample. A thumbnail counts as one."""
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])  # identifier, samples across and down, table
    areas = [across * down for _, across, down, _ in layers]
    if data.count(b"\xff\xda") < 2 or not areas:  # noqa: PLR2004
        return 0
    return 2 * image.size[0] * image.size[1] * sum(areas) // max(areas)


def _strip_bytes(image: ImageFile.ImageFile) -> int:
    """Return the size of a strip or tile of a compressed TIFF, which libtiff unpacks as a whole."""
    tags = getattr(image, "tag_v2", {})
    width, height = image.size
    across, down = tags.get(_TILE_WIDTH, width), min(tags.get(_TILE_HEIGHT, tags.get(_STRIP_ROWS, height)), height)
    return int(across * down * max(4, sum(tags.get(_BITS, (8,))) // 8))
