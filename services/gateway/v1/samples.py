"""The sample photos of the studio page and their credits."""

from __future__ import annotations

from functools import cache

from services.gateway.http.static_files import FOLDER
from services.gateway.v1.schemas import Sample
from shared.image_codec import probe

_PHOTOS = FOLDER / "samples"


@cache
def load_samples() -> tuple[Sample, ...]:
    """Return the photos in the table of CREDITS.md: `| file | picture | from | licence |`."""
    rows = [line.strip("| ").split(" | ") for line in (_PHOTOS / "CREDITS.md").read_text().splitlines()]
    return tuple(_load_sample(file, f"{title} ({licence})") for file, title, _, licence in filter(_is_photo, rows))


def _is_photo(row: list[str]) -> bool:
    return (_PHOTOS / row[0]).is_file()


def _load_sample(file: str, credit: str) -> Sample:
    photo = probe((_PHOTOS / file).read_bytes())
    name = file.partition(".")[0]
    return Sample(name=name, url=f"/static/samples/{file}", width=photo.width, height=photo.height, credit=credit)
