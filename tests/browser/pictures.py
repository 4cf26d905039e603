"""Photos that nobody should have to keep in a repository, made from the samples."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

SAMPLES = Path(__file__).parents[2] / "services/gateway/static/samples"
_ORIENTATION, _TURNED_RIGHT = 0x0112, 6  # the EXIF tag, and what a telephone held upright writes there


def read(path: Path) -> Image.Image:
    """The picture in a file, as its pixels lie there."""
    with Image.open(path) as picture:
        return picture.convert("RGB")


def enlarged(size: tuple[int, int], sample: str = "rocket") -> Image.Image:
    """A sample, enlarged."""
    return read(SAMPLES / f"{sample}.jpg").resize(size, Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, *, turned: bool = False) -> bytes:
    """A JPEG; turned: as a telephone saves it that is held upright, its pixels lying and a tag that says so."""
    exif = Image.Exif()
    if turned:
        exif[_ORIENTATION] = _TURNED_RIGHT
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()
