"""Notes on the parts of a file that are not edited or not kept: further frames, gain maps, bits. Short sentences."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

from shared import isobmff, jpeg

if TYPE_CHECKING:
    from shared.image_source import Source

GAIN_MAP_DROPPED = "gain map dropped"
_PHOTOS = frozenset({"JPEG", "HEIF"})
_COUNTED_BY_SEEKING = frozenset({"GIF", "TIFF"})
_NOUNS = {"TIFF": "pages"}


def list_notes(source: Source, data: bytes, *, depth: str | None = None) -> tuple[str, ...]:
    """Return the notes on an opened file; `data` is all of it, and `depth` the note on its 16 bits."""
    count = _count_frames(source, data)
    has_gain_map = _has_gain_map(source.format, data)
    notes: list[str] = []
    if source.format in _PHOTOS:
        others = count - 1 - (has_gain_map and source.format == "JPEG")  # HEIC hides its gain map
        if others > 0:
            notes.append(f"main one of {others + 1} pictures")
    elif count > 1:
        notes.append(f"first of {count} {_NOUNS.get(source.format, 'frames')}")
    if has_gain_map:
        notes.append(GAIN_MAP_DROPPED)
    if depth is None and (bits := _video_bits(source, data)) > 8:  # noqa: PLR2004
        depth = f"{bits} bits reduced to 8"
    return (*notes, depth) if depth else tuple(notes)


def _count_frames(source: Source, data: bytes) -> int:
    if source.format == "JPEG":
        return jpeg.count_pictures(data)
    if source.format == "PNG":
        return source.frames
    if source.format in _COUNTED_BY_SEEKING:
        return _seek_to_the_end(source)
    return int(getattr(source.image, "n_frames", 1))


def _seek_to_the_end(source: Source) -> int:
    """Return the number of readable frames.

    It opens the file again: a broken later frame must not make the first one unreadable.
    """
    count = 1
    try:
        with Image.open(io.BytesIO(source.pixels), formats=(source.format,)) as image:
            count = int(getattr(image, "n_frames", 1))
    except Exception:  # noqa: BLE001 (decoders raise many types, and the first frame is sound)
        return count
    return count


def _has_gain_map(kind: str, data: bytes) -> bool:
    if kind == "JPEG":
        return jpeg.has_gain_map(data)
    return kind in {"HEIF", "AVIF"} and isobmff.has_gain_map(data)


def _video_bits(source: Source, data: bytes) -> int:
    """Return the bits a channel of a HEIC or AVIF; 8 for all other formats."""
    if source.format == "HEIF":
        return int(source.image.info.get("bit_depth") or 8)
    return isobmff.bits(data) if source.format == "AVIF" else 8
