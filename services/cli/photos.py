"""The photos of a run and the files that it writes."""

from __future__ import annotations

import tempfile
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import WrongArguments

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"})
_BY_FORMAT = {"jpeg": ".jpg", "webp": ".webp", "avif": ".avif"}
_REPLACED = {".heic": ".jpg", ".heif": ".jpg", ".gif": ".png", ".ico": ".png"}  # formats that the server cannot write
ENDINGS = {"mask": "mask", "remove": "removed", "insert": "inserted", "balance": "balanced", "cut-out": "cut-out"}


def find_photos(sources: Iterable[str]) -> list[Path]:
    """Return the photos of files, folders and patterns, each once, without results of earlier runs in folders.

    Raises WrongArguments if a source has none.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        photos = _photos_in(path) if path.is_dir() else [path] if path.is_file() else _matches(source)
        if not photos:
            raise WrongArguments(f"There is no photo at {source}.")
        found |= dict.fromkeys(photos)
    return list(found)


def target_of(photo: Path, options: Namespace) -> Path:
    """Return the file for the result of a photo. The suffix is that of the format; without one a result is a PNG."""
    if options.output:
        return Path(options.output)
    wanted = getattr(options, "format", None)
    kept = _REPLACED.get(photo.suffix.lower(), photo.suffix)
    suffix = kept if wanted == "original" else _BY_FORMAT.get(str(wanted), ".png")
    name = f"{photo.stem}-{ENDINGS[options.command]}{suffix}"
    return (options.into or photo.parent) / name


def write(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all: another run may write the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".artmancer-", delete=False) as file:
        file.write(data)
    unfinished = Path(file.name)
    try:
        unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _photos_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_photo(path))


def _matches(pattern: str) -> list[Path]:
    return sorted(path for path in map(Path, glob(pattern, recursive=True)) if _is_photo(path))  # noqa: PTH207


def _is_photo(path: Path) -> bool:
    is_result = path.stem.rpartition("-")[2] in {"mask", "removed", "inserted", "balanced"} or path.stem.endswith(
        "-cut-out"
    )
    return path.is_file() and path.suffix.lower() in _SUFFIXES and not is_result
