"""The sample photos of the studio page and their credits."""

from __future__ import annotations

from functools import cache

from services.gateway.http.static_files import FOLDER
from services.gateway.v1.schemas import Sample

_PHOTOS = FOLDER / "samples"


@cache
def load_samples() -> tuple[Sample, ...]:
    """Return the photos in the table of CREDITS.md: `| file | pixels | picture | from | licence |`."""
    rows = [line.strip("| ").split(" | ") for line in (_PHOTOS / "CREDITS.md").read_text().splitlines()]
    photos = filter(_is_photo, rows)
    return tuple(_load_sample(file, pixels, f"{title} ({licence})") for file, pixels, title, _, licence in photos)


def _is_photo(row: list[str]) -> bool:
    return (_PHOTOS / row[0]).is_file()


def _load_sample(file: str, pixels: str, credit: str) -> Sample:
    width, height = map(int, pixels.split(" x "))
    name = file.partition(".")[0]
    return Sample(name=name, url=f"/static/samples/{file}", width=width, height=height, credit=credit)
