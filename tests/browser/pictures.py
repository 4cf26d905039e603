"""Large test photos, made from the samples instead of kept in the repository."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

SAMPLES = Path(__file__).parents[2] / "services/gateway/static/samples"
_ORIENTATION, _TURNED_RIGHT = 0x0112, 6  # the EXIF orientation tag and its value for a phone in portrait


def read(path: Path) -> Image.Image:
    """Return the image in a file without its EXIF rotation."""
    with Image.open(path) as picture:
        return picture.convert("RGB")


def enlarge_sample(size: tuple[int, int], sample: str = "rocket") -> Image.Image:
    """Return an enlarged sample."""
    return read(SAMPLES / f"{sample}.jpg").resize(size, Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, *, turned: bool = False) -> bytes:
    """Return a JPEG. `turned`: in portrait as phones save it, with rotated pixels and an EXIF tag."""
    exif = Image.Exif()
    if turned:
        exif[_ORIENTATION] = _TURNED_RIGHT
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()
