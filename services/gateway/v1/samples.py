"""The photos that come with the studio page, and whose they are."""

from __future__ import annotations

from functools import cache

from services.gateway.http.static_files import FOLDER
from services.gateway.v1.schemas import Sample
from shared.image_codec import probe

_PHOTOS = FOLDER / "samples"


@cache
def samples() -> tuple[Sample, ...]:
    """Read the table in CREDITS.md: `| file | picture | from | licence |`."""
    rows = [line.strip("| ").split(" | ") for line in (_PHOTOS / "CREDITS.md").read_text().splitlines()]
    return tuple(_sample(file, f"{picture} ({licence})") for file, picture, _, licence in _photos(rows))


def _photos(rows: list[list[str]]) -> list[list[str]]:
    return [row for row in rows if (_PHOTOS / row[0]).is_file()]


def _sample(file: str, credit: str) -> Sample:
    photo = probe((_PHOTOS / file).read_bytes())
    name = file.partition(".")[0]
    return Sample(name=name, url=f"/static/samples/{file}", width=photo.width, height=photo.height, credit=credit)
