"""Stores an operator's adapter file in the model's folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from services.models.exclusive import exclusive
from services.models.inventory import base_in, measure, read_manifest, seal
from shared.errors import BadInput, ConfigError, NotFound, Unavailable
from shared.messages import Task
from shared.safetensors_header import read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from shared.volumes import AdapterFacts

FOLDER = "qwen"
_SCRATCH = ".adding-"
NAMES = (*(task.value for task in Task), "lightning-4", "lightning-8")


def add(
    name: str, content: BinaryIO, facts: AdapterFacts, folder: Path, waiting: Callable[[], object] = lambda: None
) -> int:
    """Store an adapter, which replaces the previous one; return its size in bytes.

    The file is read completely and checked before it replaces another one. Raises BadInput, NotFound, ConfigError,
    Unavailable.
    """
    if name not in NAMES:
        raise NotFound(f"There is no adapter {name}; known are {', '.join(NAMES)}.")
    home, file = folder / FOLDER, f"adapters/{name}.safetensors"
    if not home.is_dir():
        raise Unavailable(f"{FOLDER} is missing from MODEL_DIR: pull it first.")
    with exclusive(home, waiting):
        manifest = read_manifest(folder, FOLDER)
        base = base_in(home, manifest)
        if base is None:
            raise Unavailable(f"{FOLDER} is missing from MODEL_DIR: pull it first.")
        if facts.base and facts.base != base:
            raise BadInput(
                f"The adapter is for {facts.base}, and MODEL_DIR/{FOLDER} holds {base}; "
                f"use an adapter for {base}, or another MODEL_DIR."
            )
        for left in home.glob(f"{_SCRATCH}*"):  # left by a command that was killed
            shutil.rmtree(left, ignore_errors=True)
        try:
            with TemporaryDirectory(prefix=_SCRATCH, dir=home) as scratch:
                arrived = _receive(content, Path(scratch))
                sizes = measure(arrived, file)
                (home / file).parent.mkdir(exist_ok=True)
                arrived.replace(home / file)
        except PermissionError as error:
            raise ConfigError(f"MODEL_DIR names {folder}, where {file} cannot be written: {error.strerror}.") from error
        files, adapters = {**manifest.files, file: sizes}, {**manifest.adapters, file: facts}
        seal(home, manifest.model_copy(update={"files": files, "adapters": adapters}))
    return sizes.size_bytes


def _receive(content: BinaryIO, scratch: Path) -> Path:
    arrived = scratch / "adapter.safetensors"
    with arrived.open("wb") as file:
        shutil.copyfileobj(content, file, 4 * 1024**2)
    try:
        header = read_header(arrived)
    except ValueError as error:
        raise BadInput(f"The adapter cannot be used: {error}. Copy the file again.") from error
    if not header.tensors:
        raise BadInput("The adapter cannot be used: it is empty. Copy the file again.")
    return arrived
