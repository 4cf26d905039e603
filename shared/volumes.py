"""Model volumes: one folder per model under MODEL_DIR, and in it a manifest of what its bytes must be.

`python -m services.models pull` fills them; services only read, and never fetch anything. They do not start on a file
that is missing or another than the one that was pulled.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MANIFEST = "manifest.json"
_PIECE_BYTES = 4 * 1024**2


class FileFacts(BaseModel):
    """What a file must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class VolumeManifest(BaseModel):
    """What was pulled: where from, under which licence, and every file by its name in the folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    licence: str
    sources: tuple[str, ...]
    """Where the files came from, e.g. `<owner>/<name>@<revision>`."""
    files: dict[str, FileFacts]


class Volume:
    """One model's folder."""

    def __init__(self, model_dir: Path, model: str) -> None:
        """Read the manifest. Raises ConfigError where there is none, or none that can be read."""
        self._model = model
        self._home = model_dir / model
        try:
            self.manifest = VolumeManifest.model_validate_json((self._home / MANIFEST).read_bytes())
        except OSError as error:
            raise self._problem(MANIFEST, "is missing from MODEL_DIR") from error
        except ValidationError as error:
            raise self._problem(MANIFEST, "cannot be read") from error

    def path(self, name: str) -> Path:
        """Return where a file lies; its size is checked. Raises ConfigError."""
        facts, path = self.manifest.files.get(name), self._home / name
        if facts is None or not path.is_file():
            raise self._problem(name, "is missing from MODEL_DIR")
        if path.stat().st_size != facts.size_bytes:
            raise self._problem(name, "is not the one that was pulled")
        return path

    def verify(self, name: str) -> Path:
        """Return where a file lies whose every byte is as it was pulled: a second for each GB. Raises ConfigError."""
        path = self.path(name)
        if digest(path) != self.manifest.files[name].sha256:
            raise self._problem(name, "is not the one that was pulled")
        return path

    def _problem(self, name: str, what: str) -> ConfigError:
        return ConfigError(
            f"The model file {self._model}/{name} {what}; `python -m services.models pull {self._model}` fetches it."
        )


def digest(path: Path, told: Callable[[int], object] = lambda _: None) -> str:
    """SHA-256 of a file in hex, read in pieces; `told` hears how many bytes each piece had."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            sha256.update(piece)
            told(len(piece))
    return sha256.hexdigest()
