"""`python -m services.models list|pull|verify`: fetches model weights into MODEL_DIR and checks every byte of them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from services.models import sources as origins
from services.models.manifest import MODELS, Wheel
from shared.errors import EXIT_CONFIG, ArtMancerError, ConfigError, NotFound, Unavailable
from shared.volumes import MANIFEST, FileFacts, Volume, VolumeManifest, digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from services.models.manifest import Model

# In the model's folder, so that a file arrives on the volume where it stays. Two, or what is left of an interrupted
# fetch would be taken for what a folder held.
ARRIVALS, COPIES = ".arrivals", ".copies"


def model_dir() -> Path:
    """Return the folder with one sub-folder per model."""
    return Path(os.environ.get("MODEL_DIR", ".models"))


def pull(model: Model, folder: Path, origin: Path | None = None, *, renew: bool = False) -> bool:
    """Fetch a model, or copy it from a folder, unless it is whole already; returns whether anything was fetched.

    `renew` takes new files for those that were locked. Raises Unavailable, NotFound, ConfigError.
    """
    home = folder / model.name
    if origin is None and not renew and (problem(model, folder) is None or _adopt(model, home)):
        return False
    locked = _locked(folder, model)
    arrivals = home / (ARRIVALS if origin is None else COPIES)
    try:
        arrivals.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"MODEL_DIR names {folder}, where {model.name} cannot be written: {error.strerror}."
        ) from error
    if origin is not None:
        source = origins.copy(model, origin, arrivals)
    else:
        whole = {name for name, facts in locked.files.items() if _flaw(home, name, facts) is None}
        source = origins.fetch(model, arrivals, *(("", set()) if renew else (_commit(locked), whole)))
    _move_in(model, arrivals, source, locked, renew=renew)
    return True


def _adopt(model: Model, home: Path) -> bool:
    """Seal files that lie there whole, from before there were manifests; only where their digests are pinned."""
    facts = {}
    for file in model.files:
        if not (home / file.name).is_file():
            return False
        facts[file.name] = _facts(home / file.name, file.name)
    if not isinstance(model.source, Wheel) or any(facts[file.name].sha256 != file.sha256 for file in model.files):
        return False
    _seal(model, home, (model.source.requirement,), facts)
    return True


def _move_in(model: Model, arrivals: Path, source: str, locked: VolumeManifest, *, renew: bool) -> None:
    """Check what has arrived, put each file in its place, and write the manifest last. Raises Unavailable."""
    home = arrivals.parent
    paths = {path.relative_to(arrivals).as_posix(): path for path in sorted(arrivals.rglob("*")) if path.is_file()}
    there = {name: home / name for name in locked.files} | paths
    if lost := [name for name in (*(file.name for file in model.files), *_shards(there)) if name not in there]:
        raise Unavailable(f"{model.name} is not whole: {lost[0]} is missing where it comes from.")
    known = {} if renew else {name: facts.sha256 for name, facts in locked.files.items()}
    known |= {file.name: file.sha256 for file in model.files if file.sha256}
    facts = {name: _facts(path, name) for name, path in paths.items()}
    for name in sorted(facts.keys() & known.keys()):
        if facts[name].sha256 != known[name]:
            shutil.rmtree(arrivals)
            raise Unavailable(f"{model.name} arrived damaged: {name} has another SHA-256 than the manifest.")
    for name, path in paths.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        path.replace(home / name)
    shutil.rmtree(arrivals)
    _seal(model, home, tuple(dict.fromkeys((*locked.sources, source))), {**locked.files, **facts})


def _shards(paths: Mapping[str, Path]) -> Iterator[str]:
    """Yield what the indexes among the files say that the weights are divided into."""
    for name, path in paths.items():
        if name.endswith(".safetensors.index.json"):
            with suppress(OSError, ValueError, LookupError, AttributeError, TypeError):  # whoever loads it says more
                shards = set(json.loads(path.read_bytes())["weight_map"].values())
                yield from sorted(str(PurePosixPath(name).with_name(shard)) for shard in shards)


def _seal(model: Model, home: Path, sources: tuple[str, ...], files: dict[str, FileFacts]) -> None:
    (home / "NOTICE").write_text(model.notice)
    manifest = VolumeManifest(model=model.name, licence=model.licence, sources=sources, files=files)
    part = home / f"{MANIFEST}.part"
    part.write_text(manifest.model_dump_json(indent=1))
    part.replace(home / MANIFEST)


def _facts(path: Path, name: str) -> FileFacts:
    size = path.stat().st_size
    with origins.bar(f"checking {name}", size) as told:
        return FileFacts(sha256=digest(path, told), size_bytes=size)


def _locked(folder: Path, model: Model) -> VolumeManifest:
    """Return the manifest on the volume, or one of nothing."""
    try:
        return Volume(folder, model.name).manifest
    except ConfigError:
        return VolumeManifest(model=model.name, licence=model.licence, sources=(), files={})


def _commit(locked: VolumeManifest) -> str:
    """Return the source of the hub that was pulled last, with its commit, if there was one."""
    return next((source for source in reversed(locked.sources) if "@" in source), "")


def problem(model: Model, folder: Path, *, read: bool = True) -> str | None:
    """Say what is wrong with a model on disk; None when every byte is as it should be, or without `read` every size."""
    locked = _locked(folder, model).files
    if not {file.name for file in model.files} <= locked.keys():
        return "missing"
    pinned = (file for file in model.files if file.sha256)
    flaws = [f"damaged ({file.name})" for file in pinned if locked[file.name].sha256 != file.sha256]
    flaws += [flaw for name, facts in locked.items() if (flaw := _flaw(folder / model.name, name, facts, read=read))]
    return flaws[0] if flaws else None


def _flaw(home: Path, name: str, facts: FileFacts, *, read: bool = True) -> str | None:
    path = home / name
    if not path.is_file():
        return f"missing ({name})"
    if path.stat().st_size != facts.size_bytes or (read and _facts(path, name) != facts):
        return f"damaged ({name})"
    return None


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
    parser.add_argument("--from", dest="origin", type=Path, metavar="DIR", help="pull: copy from this folder instead")
    parser.add_argument("--renew", action="store_true", help="pull: take other files than those that were locked")
    given = parser.parse_args(arguments)
    folder = model_dir()
    # Read by the hub's library when it is imported. Plain HTTP passes any mirror, and keeps no cache beside the volume.
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    try:
        for model in chosen(given.names):
            if given.command == "pull":
                fetched = pull(model, folder, given.origin, renew=given.renew)
                print(
                    f"{model.name}: {'fetched' if fetched else 'here already'}, {_size(model, folder)}, {model.licence}"
                )
            else:
                print({"list": _listed, "verify": _verified}[given.command](model, folder))
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        return EXIT_CONFIG
    except ArtMancerError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:  # above all a full disk, which names no file
        where = error.filename or f"{folder}, which MODEL_DIR names"
        print(f"{given.command.capitalize()} ended at {where}: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


def _listed(model: Model, folder: Path) -> str:
    state = problem(model, folder, read=False) or "here"
    return f"{model.name:<10} {_size(model, folder):>9}  {model.licence:<12} {state:<10} {model.purpose}"


def _verified(model: Model, folder: Path) -> str:
    if found := problem(model, folder):
        raise Unavailable(f"{model.name} is {found}; `python -m services.models pull {model.name}` fetches it.")
    return f"{model.name}: all bytes are as they should be"


def _size(model: Model, folder: Path) -> str:
    """Tell how large a model is, in megabytes, if that is known."""
    locked = _locked(folder, model).files.values()
    sizes: list[int | None] = [facts.size_bytes for facts in locked]
    sizes = sizes or [file.size_bytes for file in model.files]
    known = [size for size in sizes if size is not None]
    return f"{sum(known) / 1e6:,.1f} MB" if known and len(known) == len(sizes) else "? MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
