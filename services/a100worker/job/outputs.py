"""The files of a finished edit: the whole result, and the changed rectangle alone, both as PNG.

A client that has the photo needs only the rectangle: for a spot of 400 px in 12 megapixels, 0.35 MB instead of 15.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.a100worker.imaging.depth import keep_depth
from services.a100worker.imaging.placement import Box, bounding_box
from services.a100worker.imaging.transparency import restore
from services.a100worker.job.results import File, count_outside_changes
from shared.deep_pixels import KEPT
from shared.image_codec import Photo, encode_png
from shared.source_types import combine, find_source_type

if TYPE_CHECKING:
    from services.a100worker.backend import Edit
    from services.a100worker.job.inputs import Decoded, Files
    from shared.image_codec import Rgb
    from shared.source_types import SourceType

_PICTURES = ("image", "reference")  # the inputs whose content is in a result; the first one is the edited photo
_LARGEST_PATCH = 0.25  # share of the photo's pixels: a larger patch costs more to store than it saves


@dataclass(frozen=True, slots=True)
class Output:
    """A finished edit with its files, and notes on the parts of the inputs that were left out.

    `patch` is the part of the result in `changed_box`; None if it saves little. `photo` is the result as its file would
    be decoded; None for a photo with transparency or 16 bits, whose file must be decoded.
    """

    edit: Edit
    result: File
    photo: Photo | None
    patch: File | None
    changed_box: Box
    changed_outside_px: int
    source_type: SourceType | None
    notes: list[str]


def encode(edit: Edit, decoded: Decoded, files: Files, table: Rgb | None = None) -> Output:
    """Return the files of an edit. `files` are the job's input files, `table` is that of a white balance."""
    photo = decoded.photo
    pixels = keep_depth(photo.deep, decoded.inputs.image, edit, restore(photo.rgba, edit), table)
    changed_outside = count_outside_changes(photo.pixels, pixels, edit.region)
    notes = [note for note in decoded.notes if note != KEPT or table is None]  # a table edits all 16 bits
    height, width = pixels.shape[:2]
    inner = None if edit.region is None or changed_outside else bounding_box(edit.region)
    box = inner or Box(0, 0, width, height)
    source_type = combine(edit.source_type, [find_source_type(files[name]) for name in _PICTURES if name in files])
    patch = None
    if box.width * box.height <= _LARGEST_PATCH * width * height:
        patch = File(encode_png(pixels[box.slices], photo.colour, source_type), box.width, box.height)
    result = File(encode_png(pixels, photo.colour, source_type), width, height)
    is_plain = photo.rgba is None and photo.deep is None
    kept = Photo(edit.image, photo.colour) if is_plain else None
    return Output(edit, result, kept, patch, box, changed_outside, source_type, notes)
