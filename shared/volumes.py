"""Model volumes: one folder per model under MODEL_DIR, with a manifest of its files and their digests.

`python -m services.models pull` fills the volumes; services only read them. A service does not start when a file is
missing or differs from the one that was pulled.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MANIFEST = "manifest.json"
_ADAPTERS = "adapters/"
_PIECE_BYTES = 4 * 1024**2


class FileFacts(BaseModel):
    """Digest and size of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class AdapterFacts(BaseModel):
    """How to use one adapter file of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str | None = None
    """The model that it was trained on, e.g. `Qwen-Image-Edit-2511`; None: unknown."""
    recipe: str | None = None
    """The worker's recipe: which images it is shown, and in which words. None: the worker's own default."""
    words: str | None = None
    """The words that it was trained with."""
    licence: str | None = None
    source: str | None = None


class VolumeManifest(BaseModel):
    """The content of a volume: its sources, its licence, and every file by its name in the folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    licence: str
    sources: tuple[str, ...]
    """Where the files came from, e.g. `<owner>/<name>@<revision>`."""
    files: dict[str, FileFacts]
    adapters: dict[str, AdapterFacts] = {}
    """By the name of their file; a file without an entry is used as an adapter of unknown origin."""


class Volume:
    """One model's folder."""

    def __init__(self, model_dir: Path, model: str) -> None:
        """Read the manifest. Raises ConfigError when it is missing or not valid."""
        self._model = model
        self._home = model_dir / model
        try:
            self.manifest = VolumeManifest.model_validate_json((self._home / MANIFEST).read_bytes())
        except OSError as error:
            raise self._problem(MANIFEST, "is missing from MODEL_DIR") from error
        except ValidationError as error:
            raise self._problem(MANIFEST, "cannot be read") from error

    def path(self, name: str) -> Path:
        """Return the path of a file after checking its size. Raises ConfigError."""
        facts, path = self.manifest.files.get(name), self._home / name
        if facts is None or not path.is_file():
            raise self._problem(name, "is missing from MODEL_DIR")
        if path.stat().st_size != facts.size_bytes:
            raise self._problem(name, "is not the one that was pulled")
        return path

    def verify(self, name: str) -> Path:
        """Return the path of a file after comparing every byte with its digest: a second per GB. Raises ConfigError."""
        path = self.path(name)
        if digest(path) != self.manifest.files[name].sha256:
            raise self._problem(name, "is not the one that was pulled")
        return path

    def _problem(self, name: str, problem: str) -> ConfigError:
        remedy = f"`python -m services.models pull {self._model}` fetches it"
        if name.startswith(f"{_ADAPTERS}lightning-"):
            remedy = "`python -m services.models pull lightning` fetches it"
        elif name.startswith(_ADAPTERS):  # `pull` has no source for these
            remedy = f"`python -m services.models add {PurePosixPath(name).stem} FILE` stores it again"
        return ConfigError(f"The model file {self._model}/{name} {problem}; {remedy}.")


def digest(path: Path, progress: Callable[[int], object] = lambda _: None) -> str:
    """Return the SHA-256 of a file in hex; `progress` receives the length of each piece that was read."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            sha256.update(piece)
            progress(len(piece))
    return sha256.hexdigest()
