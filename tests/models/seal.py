"""Makes a folder a model volume, as `python -m services.models pull` does when it has fetched the last file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.volumes import MANIFEST, FileFacts, VolumeManifest, digest

if TYPE_CHECKING:
    from pathlib import Path


def seal(folder: Path) -> None:
    """Write the manifest of all that lies in the folder now."""
    files = {
        path.relative_to(folder).as_posix(): FileFacts(sha256=digest(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = VolumeManifest(model=folder.name, licence="none: made by a test", sources=("tests",), files=files)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
