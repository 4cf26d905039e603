"""Works on pictures for answers: their names as resources, small previews, and the comparison of two."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp.server.mcpserver.exceptions import ToolError
from PIL import Image, ImageChops

from services.cli.upright import turn_upright

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEME = "artmancer://images/"
_NAME = re.compile(r"[0-9a-f]{64}")
_PREVIEW_PX, _PREVIEW_QUALITY = 512, 80
_BAND_PIXELS = 1_000_000
_UNREADABLE = "This picture cannot be opened here; PNG, JPEG and WebP can."
_OTHER_SIZES = "The pictures have different sizes: {} x {} and {} x {} pixels."


@dataclass(frozen=True, slots=True)
class Difference:
    """The pixels that differ, their share, and their bounding box: left, top, right, bottom; None without any."""

    changed_pixels: int
    share: float
    box: tuple[int, int, int, int] | None


def name_of(reference: str) -> str:
    """Return the SHA-256 of `artmancer://images/<sha256>` or of the hash alone. Raises ToolError."""
    name = reference.removeprefix(SCHEME)
    if not _NAME.fullmatch(name):
        raise ToolError("Name a picture by its address artmancer://images/<sha256>, as the tools return it.")
    return name


def preview_of(data: bytes) -> bytes:
    """Return a JPEG of at most 512 pixels a side. Raises ToolError."""
    small = _open(data, _PREVIEW_PX)
    small.thumbnail((_PREVIEW_PX, _PREVIEW_PX))
    ground = Image.new("RGB", small.size, "white")
    ground.paste(small, mask=small.getchannel("A") if small.mode == "RGBA" else None)
    file = io.BytesIO()
    ground.save(file, "JPEG", quality=_PREVIEW_QUALITY)
    return file.getvalue()


def compare(before: bytes, after: bytes) -> Difference:
    """Return the difference of two pictures of one size, channel by channel. Raises ToolError."""
    first, second = _open(before), _open(after)
    if first.size != second.size:
        raise ToolError(_OTHER_SIZES.format(*first.size, *second.size))
    mode = "RGBA" if "RGBA" in {first.mode, second.mode} else "RGB"
    changed, box = 0, None
    for top, left_band, right_band in _bands(first, second):
        mark = _mark_differences(left_band.convert(mode), right_band.convert(mode))
        changed += mark.histogram()[255]
        box = _unite(box, mark.getbbox(), top)
    return Difference(changed, changed / (first.width * first.height), box)


def _open(data: bytes, draft_px: int | None = None) -> Image.Image:
    """Return the upright picture as RGB or RGBA; with `draft_px` a JPEG is decoded small."""
    try:
        opened = Image.open(io.BytesIO(data))
        if draft_px is not None:
            opened.draft("RGB", (draft_px, draft_px))
        upright = turn_upright(opened)
        transparent = "A" in upright.getbands() or "transparency" in upright.info
        return upright.convert("RGBA" if transparent else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ToolError(_UNREADABLE) from None


def _bands(first: Image.Image, second: Image.Image) -> Iterator[tuple[int, Image.Image, Image.Image]]:
    rows = max(1, _BAND_PIXELS // first.width)
    for top in range(0, first.height, rows):
        part = (0, top, first.width, min(top + rows, first.height))
        yield top, first.crop(part), second.crop(part)


def _mark_differences(first: Image.Image, second: Image.Image) -> Image.Image:
    """Return a picture that is 255 where any channel differs."""
    mark = Image.new("L", first.size)
    for channel in ImageChops.difference(first, second).split():
        mark = ImageChops.lighter(mark, channel)
    return mark.point([0] + [255] * 255)


def _unite(
    box: tuple[int, int, int, int] | None, found: tuple[int, int, int, int] | None, top: int
) -> tuple[int, int, int, int] | None:
    if found is None:
        return box
    moved = found[0], found[1] + top, found[2], found[3] + top
    if box is None:
        return moved
    return min(box[0], moved[0]), min(box[1], moved[1]), max(box[2], moved[2]), max(box[3], moved[3])
